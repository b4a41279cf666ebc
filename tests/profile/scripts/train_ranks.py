"""Two ranks on gloo; the second one is slow in its forward pass."""

import time

import torch
import torch.distributed as dist


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)

    def forward(self, x):
        time.sleep(0.06 * dist.get_rank() + 0.005)
        return self.layer(x)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    model = torch.nn.parallel.DistributedDataParallel(Net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        model(torch.ones(4, 8)).sum().backward()
        optimizer.step()
    if dist.get_rank() == 0:
        print("trained")
    dist.destroy_process_group()
