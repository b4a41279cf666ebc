"""The report's loop over SeqWindows."""

import torch
from torch.utils.data import DataLoader

from examples.data import table
from examples.model import small
from tfa_perf.compat import SeqWindows


def train(X, y):
    torch.manual_seed(0)
    model = small(X.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    criterion = torch.nn.BCEWithLogitsLoss()
    dataset = SeqWindows(X, y[:, None], 48, 47, len(X) - 1, 1024)
    losses = []
    for bx, by in DataLoader(dataset, batch_size=None):
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(bx), by)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    print(train(*table())[-1])
