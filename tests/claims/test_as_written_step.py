import polars as pl
import pytest
import torch

from tfa_perf.baseline.loop import train_steps
from tfa_perf.baseline.model import TFATransformer
from tfa_perf.claims.as_written import PARTS, StepAsWritten, written_step
from tfa_perf.claims.workload import ClaimsError, Workload
from tfa_perf.data.synthetic import synthetic_bars

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return Workload.prepare("synthetic:600", CPU, tmp_path_factory.mktemp("work"), quick=True)


def small(work):
    return work.report.model.model_copy(
        update={"d_model": 8, "nhead": 2, "num_layers": 1, "ffn_hidden": 8}
    )


def test_its_losses_are_those_of_the_reports_loop(work):
    windows = work.windows_as_written(48, 64)
    train = work.report.train.model_copy(update={"batch_size": 64})
    torch.manual_seed(0)
    loop = train_steps(TFATransformer(work.features, small(work)), windows, train, CPU)
    steps = (windows.end - windows.start + 1) // 64
    torch.manual_seed(0)
    step = StepAsWritten(
        TFATransformer(work.features, small(work)), work.batches_as_written(48, 64), CPU, steps
    )
    assert [step() for _ in range(steps)] == [next(loop) for _ in range(steps)]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_left_out_is_not_done(work, part):
    step = written_step(work, batch=64, model=small(work), without=part)
    weights = next(step.model.parameters()).detach().clone()
    calls = []
    step.model.register_forward_hook(lambda *_: calls.append(1))
    fetched = []
    batches = step._batches
    step._batches = iter(lambda: fetched.append(1) or next(batches), None)
    step()
    assert bool(calls) == (part != "share-compute")
    assert bool(fetched) == (part != "share-data")
    changed = not torch.equal(weights, next(step.model.parameters()))
    assert changed == (part != "share-other")


def test_timed_parts_are_those_of_one_step(work):
    laps = written_step(work, batch=64, model=small(work)).timed()
    assert tuple(laps) and set(laps) == set(PARTS) and all(t > 0 for t in laps.values())


def test_accumulated_batches_give_the_gradient_of_one(work):
    gradients = []
    for batch, count in ((64, 1), (16, 4)):
        step = written_step(work, batch=batch, model=small(work), accumulate=count)
        step()
        gradients.append([p.grad for p in step.model.parameters()])
    for one, four in zip(*gradients, strict=True):
        torch.testing.assert_close(one, four, rtol=1e-4, atol=1e-6)


def test_several_series_are_refused(tmp_path):
    bars = synthetic_bars(1200, symbols=2)
    columns = {name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")}
    symbol = [s for s in bars.symbols for _ in range(600)]
    path = tmp_path / "two.parquet"
    pl.DataFrame({"ts": bars.ts.view("M8[ns]"), "symbol": symbol, **columns}).write_parquet(path)
    with pytest.raises(ClaimsError, match="2 symbols"):
        Workload.prepare(str(path), CPU, tmp_path / "work", quick=True)
