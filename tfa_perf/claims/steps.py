"""Recommendations that change the report's step: whole steps, as written and changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import torch
from torch import Tensor, nn

from tfa_perf.baseline.model import TFATransformer
from tfa_perf.claims.as_written import StepAsWritten, written_step
from tfa_perf.claims.finding import Finding, found, invalid
from tfa_perf.claims.paired import repeat
from tfa_perf.claims.workload import OutputsDiffer, Workload
from tfa_perf.config import ModelConfig
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.step import CPU_MICRO_BATCH

__all__ = ["measure_compute", "measure_steps"]

_ANOTHER = "not comparable: another model"
_T = 48


def measure_steps(work: Workload, wanted: Collection[str]) -> Iterator[Finding]:
    """T, model size, accumulation, progress and mixed precision, those that are wanted."""
    if "window" in wanted:
        for window in (32, 24):
            yield _versus(
                work, "window", f"T {window}", _ANOTHER, written_step(work, window=window)
            )
    if "smaller-model" in wanted:
        small = work.report.model.model_copy(update={"d_model": 96, "num_layers": 2})
        step = written_step(work, model=small)
        yield _versus(work, "smaller-model", "d_model 96, 2 layers, else the same", _ANOTHER, step)
    if "accumulation" in wanted:
        yield from _accumulation(work)
    if "progress" in wanted:
        step = written_step(work, log_every=50)
        variant = "loss read and print every 50 steps, not read every step and print every 1 %"
        yield _versus(work, "progress", variant, "same losses, read later", step)
    if "mixed-precision" in wanted:
        yield from _mixed_precision(work)


def _versus(work: Workload, id: str, variant: str, compared: str, step: StepAsWritten) -> Finding:
    base = written_step(work)
    result = work.versus(base, step)
    base.close()
    step.close()
    return found(id, variant, work.describe(_T, work.sizes.batch), compared, result)


def _accumulation(work: Workload) -> Iterator[Finding]:
    whole = work.fitting(work.sizes.batch) // 4 * 4
    part = whole // 4
    variant = f"4 batches of {part} an update, not one of {whole}: as many windows an update"
    workload = work.describe(_T, whole)
    try:
        _same_gradients(work, whole)
    except OutputsDiffer as error:
        yield invalid("accumulation", variant, workload, str(error))
        return
    base, split = (
        written_step(work, batch=size, accumulate=count) for size, count in ((whole, 1), (part, 4))
    )
    compared = "gradients equal within 1e-4 of the largest"
    result = work.versus(base, split)
    yield found("accumulation", variant, workload, compared, result)
    each = written_step(work, batch=part)
    variant = f"4 batches of {part} an update, not an update after each: 4 times as many windows"
    result = work.versus(repeat(each, 4), split)
    yield found(
        "accumulation",
        variant,
        work.describe(_T, part),
        "not comparable: fewer updates",
        result,
    )
    for step in (base, split, each):
        step.close()


def _same_gradients(work: Workload, batch: int) -> None:
    x, y = work.batch_on_device(_T, batch)
    model = _seeded(TFATransformer, work, work.report.model)
    criterion = nn.BCEWithLogitsLoss()

    def gradients(parts: int) -> list[Tensor]:
        model.zero_grad()
        for x_part, y_part in zip(x.chunk(parts), y.chunk(parts), strict=True):
            (criterion(model(x_part), y_part) / parts).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    _compare_gradients(gradients(1), gradients(4))


def _compare_gradients(ours: list[Tensor], theirs: list[Tensor]) -> None:
    largest = max(g.abs().max().item() for g in theirs)
    worst = max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))
    if not worst <= 1e-4 * largest:
        raise OutputsDiffer(f"gradients differ by {worst:.2g}, the largest is {largest:.2g}")


def _mixed_precision(work: Workload) -> Iterator[Finding]:
    variant, workload = "bfloat16 autocast", work.describe(_T, work.sizes.batch)
    x, _ = work.batch_on_device(_T, work.sizes.batch)
    model = _seeded(TFATransformer, work, work.report.model)
    with torch.no_grad():
        full = model(x)
        with torch.autocast(work.device.type, torch.bfloat16):
            half = model(x).float()
    difference = (full - half).abs().max().item()
    if not difference <= 0.1:
        yield invalid("mixed-precision", variant, workload, f"logits differ by {difference:.2g}")
        return
    compared = f"logits differ by at most {difference:.1g}"
    yield _versus(work, "mixed-precision", variant, compared, written_step(work, bf16=True))


def measure_compute(work: Workload, wanted: Collection[str]) -> Iterator[Finding]:
    """Forward and backward: the recommended model by the report's code; the same model by ours."""
    if "compute" not in wanted:
        return
    batch = work.sizes.batch
    tuned = work.tuned
    x, y = work.batch_on_device(_T, batch)
    base = _forward_backward(_seeded(TFATransformer, work, work.report.model), x, y, len(x))
    small = _seeded(TFATransformer, work, tuned.model)
    recommended = _forward_backward(small, x[:, -tuned.data.window :], y, len(x))
    on_cpu = work.device.type == "cpu"
    micro = CPU_MICRO_BATCH if on_cpu else len(x)
    lean = _forward_backward(_seeded(WindowEncoder, work, work.report.model), x, y, micro)
    workload = work.describe(_T, batch)
    sides: dict[str, tuple[Callable[[], list[Tensor]], str]] = {
        f"T {tuned.data.window}, d{tuned.model.d_model} h{tuned.model.nhead} "
        f"L{tuned.model.num_layers} f{tuned.model.ffn_hidden}, the report's code": (
            recommended,
            _ANOTHER,
        ),
        "the report's model, our code": (lean, "gradients equal within 1e-4 of the largest"),
    }
    for variant, (side, compared) in sides.items():
        if side is lean:
            try:
                _compare_gradients(lean(), base())
            except OutputsDiffer as error:
                yield invalid("compute", variant, workload, str(error))
                continue
        result = work.versus(base, side)
        yield found("compute", variant, workload, compared, result)


def _seeded(kind: type[nn.Module], work: Workload, model: ModelConfig) -> nn.Module:
    torch.manual_seed(work.report.train.seed)
    return kind(work.features, model).to(work.device).train()


def _forward_backward(
    model: nn.Module, x: Tensor, y: Tensor, micro_batch: int
) -> Callable[[], list[Tensor]]:
    criterion = nn.BCEWithLogitsLoss()

    def run() -> list[Tensor]:
        model.zero_grad(set_to_none=True)
        for x_part, y_part in zip(x.split(micro_batch), y.split(micro_batch), strict=True):
            (criterion(model(x_part), y_part) * (len(x_part) / len(x))).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    return run
