"""Our pieces: the rules of `tfa_perf.profile.verdict` that each answers, the lines to change."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["GRAPH", "PIECES", "Piece"]


class Piece(NamedTuple):
    """One piece: what it is called, the lines that go (``-``) and come (``+``), and an example.

    ``rules`` are the names of those that it answers, ``on`` the device, or ``any``.
    """

    name: str
    rules: tuple[str, ...]
    on: str
    lines: tuple[str, ...]
    example: str = ""


PIECES = (
    Piece(
        "WindowDataset",
        ("data wait",),
        "cpu",
        (
            "for windows of a table:",
            "+from tfa_perf.data import WindowDataset",
            "-loader = DataLoader(YourDataset(X, y, T), batch_size=B, shuffle=True)",
            "+loader = DataLoader(WindowDataset(X, y, window=T), batch_size=B, shuffle=True)",
            "or, where the loop is your own, the whole loader, which makes batches ahead:",
            "+from tfa_perf.data import WindowLoader",
            "+loader = WindowLoader(X, y, window=T, batch_size=B, shuffle=True)",
        ),
        "examples/dataloader",
    ),
    Piece(
        "WindowLoader, table on the device",
        ("data wait", "host to device"),
        "gpu",
        (
            "for windows of a table:",
            "+from tfa_perf.data import WindowLoader",
            "-loader = DataLoader(YourDataset(X, y, T), batch_size=B, shuffle=True)",
            '+loader = WindowLoader(X, y, window=T, batch_size=B, shuffle=True, device="cuda")',
            "-x, y = x.to(device), y.to(device)",
        ),
        "examples/dataloader",
    ),
    Piece(
        "make_step",
        ("loss read", "device wait", "zero_grad", "clipping"),
        "any",
        (
            "+from tfa_perf.train import make_step",
            "-optimizer.zero_grad(); loss.backward(); clip_grad_norm_(...); optimizer.step()",
            "-total += loss.item()",
            "+step = make_step(model, optimizer, loader, clip_norm=1.0)",
            "+for windows in step.epoch(): ...",
            "+print(step.mean_loss())",
        ),
    ),
    Piece(
        "fused optimizer",
        ("optimizer",),
        "any",
        (
            "where it is not fused already:",
            "+from tfa_perf.train import make_optimizer",
            "-optimizer = torch.optim.AdamW(model.parameters(), lr=lr)",
            "+optimizer = make_optimizer(model, lr=lr)  # or AdamW(..., fused=True)",
        ),
    ),
    Piece(
        "logging interval",
        ("logging",),
        "any",
        ("-print(...)", "+if index % 50 == 0: print(...)"),
    ),
)

GRAPH = Piece(
    "make_step, whole step in a CUDA graph",
    (),
    "gpu",
    (
        "+from tfa_perf.train import make_optimizer, make_step",
        "+step = make_step(model, make_optimizer(model), loader, compile=True, graph=True)",
        '+for windows in step.epoch(): ...  # loader: WindowLoader(..., device="cuda")',
    ),
)
