"""WindowDataset in the loops of others: Lightning's Trainer and Accelerate's Accelerator."""

import json
import os
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from tfa_perf.data.window_dataset import WindowDataset

ROWS, WINDOW, EPOCHS = 420, 6, 2
LAST_ROWS = [*range(5, 200), *range(205, ROWS)]


@pytest.fixture(scope="module")
def data():
    X = np.random.default_rng(0).standard_normal((ROWS, 4), dtype=np.float32)
    X[:, 0] = np.arange(ROWS)
    return WindowDataset(X, 2 * X[:, 0], window=WINDOW, series=[0, 200, ROWS], return_index=True)


class Seen:
    """Last rows of the windows that a step got, after a look at what is in them."""

    def __init__(self):
        self.epochs = [[] for _ in range(EPOCHS)]

    def add(self, epoch, batch):
        x, y, last = batch
        rows = last[:, None] + torch.arange(1 - WINDOW, 1)
        assert torch.equal(x[:, :, 0], rows.float())
        assert torch.equal(y[:, 0], 2 * last.float())
        self.epochs[epoch] += last.tolist()

    def check(self):
        for epoch in self.epochs:
            assert sorted(epoch) == LAST_ROWS
        assert self.epochs[0] != self.epochs[1]


def tiny():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 1)


def loss_of(model, batch):
    return (model(batch[0][:, -1, 1:]) - 1).square().mean()


def loader_of(data, workers):
    return DataLoader(data, 32, shuffle=True, num_workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore")
def test_lightning_trains_on_every_window_once_an_epoch(data, workers, tmp_path):
    lightning = pytest.importorskip("lightning")
    seen = Seen()

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = tiny()

        def training_step(self, batch, batch_idx):
            seen.add(self.current_epoch, batch)
            return loss_of(self.model, batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.05)

    module = Module()
    trainer = lightning.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, loader_of(data, workers))
    seen.check()
    assert not torch.equal(module.model.weight, tiny().weight)


@pytest.mark.parametrize("workers", [0, 2])
def test_accelerate_trains_on_every_window_once_an_epoch(data, workers):
    accelerate = pytest.importorskip("accelerate")
    seen, model = Seen(), tiny()
    accelerator = accelerate.Accelerator(cpu=True)
    try:
        model, optimizer, loader = accelerator.prepare(
            model, torch.optim.SGD(model.parameters(), 0.05), loader_of(data, workers)
        )
        for epoch in range(EPOCHS):
            for batch in loader:
                seen.add(epoch, batch)
                accelerator.backward(loss_of(model, batch))
                optimizer.step()
                optimizer.zero_grad()
    finally:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    seen.check()
    assert not torch.equal(model.weight, tiny().weight)


def test_two_processes_of_accelerate_share_the_windows(tmp_path):
    pytest.importorskip("accelerate")
    script = f"""
        import json, sys
        import numpy as np, torch
        from accelerate import Accelerator, DataLoaderConfiguration
        from torch.utils.data import DataLoader
        from tfa_perf.data.window_dataset import WindowDataset

        X = np.random.default_rng(0).standard_normal(({ROWS}, 4), dtype=np.float32)
        data = WindowDataset(
            X, X[:, 0], window={WINDOW}, series=[0, 200, {ROWS}], return_index=True
        )
        accelerator = Accelerator(
            cpu=True, dataloader_config=DataLoaderConfiguration(even_batches=False)
        )
        assert accelerator.num_processes == 2
        torch.manual_seed(accelerator.process_index)
        model = torch.nn.Linear(4, 1)
        # 8 whole batches: both processes take as many steps, as their gradients' exchange needs.
        model, optimizer, loader = accelerator.prepare(
            model,
            torch.optim.SGD(model.parameters(), 0.01),
            DataLoader(data, len(data) // 8 + 1, shuffle=True),
        )
        epochs = []
        for _ in range({EPOCHS}):
            epochs.append([])
            for x, _, last in loader:
                epochs[-1] += last.tolist()
                accelerator.backward(model(x[:, -1]).square().mean())
                optimizer.step()
                optimizer.zero_grad()
        with open(sys.argv[1], "w") as file:
            json.dump(epochs, file)
        accelerator.end_training()
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = [tmp_path / f"{rank}.json" for rank in range(2)]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(file)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
        )
        for rank, file in enumerate(files)
    ]
    for rank in ranks:
        _, errors = rank.communicate(timeout=200)
        assert rank.returncode == 0, errors
    first, second = (json.loads(file.read_text()) for file in files)
    for one, other in zip(first, second, strict=True):
        assert one and other
        assert sorted(one + other) == LAST_ROWS


def test_ranks_of_a_distributed_sampler_share_the_windows(data):
    for epoch in range(EPOCHS):
        seen = []
        for rank in range(2):
            sampler = DistributedSampler(data, num_replicas=2, rank=rank, drop_last=False)
            sampler.set_epoch(epoch)
            last = torch.cat([batch[2] for batch in DataLoader(data, 32, sampler=sampler)])
            assert len(last) == len(data) // 2
            seen += last.tolist()
        assert sorted(seen) == LAST_ROWS
