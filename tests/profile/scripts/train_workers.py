"""User phases in DataLoader workers, nested, on a thread, and left by an exception."""

import sys
import threading
import time

import torch
from torch.utils.data import DataLoader, Dataset

from tfa_perf.profile import phase


class Rows(Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, index):
        with phase("decode"):
            time.sleep(0.01)
            with phase("augment"):
                time.sleep(0.02)
        try:
            with phase("lookup"):
                time.sleep(0.002)
                raise KeyError(index)
        except KeyError:
            return torch.ones(4)


def upload():
    with phase("upload"):
        time.sleep(0.2)


if __name__ == "__main__":
    thread = threading.Thread(target=upload, name="uploader")
    thread.start()
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workers = int(sys.argv[2])
    method = sys.argv[1] if workers else None
    for batch in DataLoader(Rows(), 4, num_workers=workers, multiprocessing_context=method):
        model(batch).sum().backward()
        optimizer.step()
    thread.join()
