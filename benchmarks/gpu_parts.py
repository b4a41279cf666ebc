"""Parts of a step on a CUDA device, each timed alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from tfa_perf.baseline.model import TFATransformer
from tfa_perf.baseline.windows import SeqWindows
from tfa_perf.config import Config
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.attention import attention, join_heads, split_heads

ROWS, FEATURES, BATCH = 300_000, 55, 1024
DEVICE = "cuda"


def seeded(model_class: Any, config: Config) -> nn.Module:
    torch.manual_seed(0)
    return model_class(FEATURES, config.model).to(DEVICE).train()


def phases_as_written(config: Config, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Mean ms of the phases of the report's loop, the device waited for after each."""
    window = config.data.window
    model = seeded(TFATransformer, config)
    windows = SeqWindows(X, y[:, None], window, window - 1, ROWS - 1, BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    criterion = nn.BCEWithLogitsLoss()
    sums: dict[str, float] = {}
    steps, warm_up = 30, 5
    batches = iter(DataLoader(windows, batch_size=None))

    for step in range(-warm_up, steps):
        last = time.perf_counter()

        def lap(name: str, step: int = step) -> None:
            nonlocal last
            torch.cuda.synchronize()
            now = time.perf_counter()
            if step >= 0:
                sums[name] = sums.get(name, 0.0) + (now - last) * 1e3 / steps
            last = now

        bx, by = next(batches)
        lap("data")
        bx, by = bx.to(DEVICE), by.to(DEVICE)
        lap("transfer")
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(bx), by)
        lap("forward")
        loss.backward()
        lap("backward")
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        lap("clip")
        optimizer.step()
        lap("optimizer")
        loss.item()
        lap("loss read")
    return sums


def one_layer_attention(config: Config) -> dict[str, float]:
    """ms of one full layer's attention, forward and backward, by ours and by each of torch's."""
    heads, d = config.model.nhead, config.model.d_model
    shape = (BATCH, config.data.window, 3 * d)
    qkv = torch.randn(shape, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    gradient = torch.randn_like(qkv[..., :d])

    def both(mix: Any) -> None:
        torch.autograd.grad(mix(), qkv, gradient)

    def by_torch() -> Tensor:
        parts = (split_heads(part, heads) for part in qkv.chunk(3, dim=-1))
        return join_heads(F.scaled_dot_product_attention(*parts))

    found = {"ours": captured_ms(lambda: both(lambda: attention(qkv, heads)))}
    found["default"] = captured_ms(lambda: both(by_torch))
    for backend in SDPBackend.__members__.values():
        # Not each of them takes every shape.
        with suppress(RuntimeError), sdpa_kernel(backend):
            found[backend.name.lower()] = captured_ms(lambda: both(by_torch))
    return found


def gather(config: Config, X: np.ndarray, y: np.ndarray) -> float:
    """ms from row numbers on the host to windows on the device, back to back."""
    loader = WindowLoader(
        X, y, window=config.data.window, batch_size=BATCH, shuffle=True, device=DEVICE
    )
    batches = iter(loader)
    return event_ms(lambda: next(batches), repeats=100)


def captured_ms(call: Callable[[], object], repeats: int = 20) -> float:
    """Without the host's time to launch: the median of replays of one graph."""
    graph = graph_of(call, repeats)
    return statistics.median(event_ms(graph.replay, 1) for _ in range(9)) / repeats


def graph_of(call: Callable[[], object], repeats: int) -> torch.cuda.CUDAGraph:
    """``repeats`` calls, one behind the other."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            call()
    return graph


def event_ms(call: Callable[[], object], repeats: int = 50) -> float:
    for _ in range(10):
        call()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(repeats):
        call()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / repeats
