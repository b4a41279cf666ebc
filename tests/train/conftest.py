import csv
import io

import numpy as np
import pytest
import torch
from rich.console import Console

from tfa_perf.config import ModelConfig, load_config
from tfa_perf.data.bars import load_bars
from tfa_perf.data.device_windows import ResidentWindows
from tfa_perf.data.loader import WindowLoader
from tfa_perf.data.table import Table, WindowForm
from tfa_perf.train.fixed_shape import FixedShapeStep
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.run import train
from tfa_perf.train.step import make_step

WINDOW, FEATURES = 6, 5


@pytest.fixture
def table():
    """``table(rows)``: X [rows, 5] and labels, the sign of the row's first feature."""

    def make(rows=300, seed=0):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((rows, FEATURES), dtype=np.float32)
        return X, (X[:, 0] > 0).astype(np.float32)

    return make


@pytest.fixture
def encoder():
    """``encoder(seed, **config)``: a small model."""

    def make(seed=0, **config):
        torch.manual_seed(seed)
        shape = {"d_model": 16, "nhead": 2, "num_layers": 2, "ffn_hidden": 24, **config}
        return WindowEncoder(FEATURES, ModelConfig(**shape), window=WINDOW)

    return make


@pytest.fixture
def window_loader(table):
    """``window_loader(rows=..., **options)``: windows of 6 rows of ``table``."""

    def make(rows=300, **options):
        X, y = table(rows)
        return WindowLoader(X, y, window=WINDOW, **{"batch_size": 32, **options})

    return make


@pytest.fixture
def resident_loader(table, window_loader):
    """``resident_loader(rows=..., **options)``: on the CPU, as if that were a device of its own."""

    def make(rows=300, **options):
        loader = window_loader(rows, **options)
        form = WindowForm(WINDOW, 0, torch.float32, None, False)
        loader._source = ResidentWindows(Table.of(*table(rows)), form, torch.device("cpu"))
        return loader

    return make


@pytest.fixture
def fixed_step():
    """What a graph captures, run without one; arguments as for ``make_step``."""

    def make(model, optimizer, loader, *, graph=False, graph_steps=1, **options):
        checked = make_step(model, optimizer, loader, **options)
        given = {
            "clip_norm": None,
            "accumulation": 1,
            "micro_batch": None,
            "bf16": False,
            "compile": False,
            **options,
            "criterion": checked._criterion,
            "graph_steps": graph_steps,
        }
        return FixedShapeStep(model, optimizer, loader, **given)

    return make


@pytest.fixture
def same_function(table):
    """Assert that two models give the same logits.

    Logits, not weights: the bias of the keys has no effect on either model, so its gradient is
    rounding noise, which AdamW scales up to whole steps.
    """

    @torch.no_grad()
    def check(one, other, atol=1e-4):
        X, _ = table(60, seed=5)
        x = torch.from_numpy(X.reshape(10, WINDOW, FEATURES))
        x = x.to(next(one.parameters()).device)
        torch.testing.assert_close(one.eval()(x), other.eval()(x), rtol=0, atol=atol)
        one.train()
        other.train()

    return check


@pytest.fixture
def tiny_config():
    """``tiny_config(*overrides)``: the tuned config with a very small model."""

    def make(*overrides):
        shape = ["d_model=8", "nhead=2", "num_layers=1", "ffn_hidden=8"]
        return load_config("tuned", [*(f"model.{s}" for s in shape), *overrides])

    return make


@pytest.fixture(scope="session")
def fit():
    """``fit(config, folder, **options)``: train into ``folder``; returns what was printed.

    The log is folder/log.csv, the checkpoints are there too.
    """

    def run(config, folder, *, bars="synthetic:3000", **options):
        console = Console(file=io.StringIO(), width=200)
        train(
            config,
            load_bars(bars),
            torch.device("cpu"),
            log=folder / "log.csv",
            checkpoints=folder,
            console=console,
            **options,
        )
        return console.file.getvalue()

    return run


@pytest.fixture(scope="session")
def logged():
    """``logged(folder)``: the rows of folder/log.csv, as text by column."""

    def rows(folder):
        with (folder / "log.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    return rows
