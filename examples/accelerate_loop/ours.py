"""A loop behind Accelerate."""

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from examples.data import table
from examples.model import small
from tfa_perf.data import WindowDataset


def train(X, y):
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    model = small(X.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    criterion = torch.nn.BCEWithLogitsLoss()
    loader = DataLoader(WindowDataset(X, y, window=48), batch_size=1024, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    losses = []
    for bx, by in loader:
        optimizer.zero_grad()
        loss = criterion(model(bx), by)
        accelerator.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    print(train(*table())[-1])
