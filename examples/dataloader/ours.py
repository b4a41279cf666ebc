"""A stock DataLoader over a map-style data set."""

import torch
from torch.utils.data import DataLoader

from examples.data import table
from examples.model import small
from tfa_perf.data import WindowDataset


def train(X, y):
    torch.manual_seed(0)
    model = small(X.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    criterion = torch.nn.BCEWithLogitsLoss()
    loader = DataLoader(WindowDataset(X, y, window=48), batch_size=1024, shuffle=True)
    losses = []
    for bx, by in loader:
        optimizer.zero_grad()
        loss = criterion(model(bx), by)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    print(train(*table())[-1])
