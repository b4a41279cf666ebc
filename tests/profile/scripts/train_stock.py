"""Stock PyTorch training: workers, gradient accumulation, GradScaler, validation, checkpoints."""

import sys

import torch
from torch.utils.data import DataLoader, Dataset


class Rows(Dataset):
    def __len__(self):
        return 96

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randn(64, generator=generator), torch.ones(1)


def main(method):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 24)
    scaler = torch.amp.GradScaler("cpu")
    loader = DataLoader(
        Rows(), 4, num_workers=2, multiprocessing_context=method, persistent_workers=True
    )
    for epoch in range(2):
        model.train()
        for index, (x, y) in enumerate(loader):
            with torch.autocast("cpu", torch.bfloat16):
                loss = torch.nn.functional.mse_loss(model(x), y) / 2
            scaler.scale(loss).backward()
            if index % 2:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
                schedule.step()
        model.eval()
        with torch.no_grad():
            total = sum(torch.nn.functional.mse_loss(model(x), y).item() for x, y in loader)
        print(f"epoch {epoch} {total:.4f}")
        torch.save(model.state_dict(), "model.pt")


if __name__ == "__main__":
    main(sys.argv[1])
