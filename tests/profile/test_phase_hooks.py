from __future__ import annotations

import builtins
import io
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tfa_perf.profile import Recorder, phase, recording
from tfa_perf.profile.hooks import hooked

PATCHED = [
    (torch.Tensor, ("to", "cuda", "copy_", "item", "tolist", "__float__", "backward")),
    (torch.nn.Module, ("__call__", "zero_grad")),
    (torch.autograd, ("backward",)),
    (torch.nn.utils, ("clip_grad_norm_", "clip_grad_value_")),
    (torch.nn.utils.clip_grad, ("clip_grad_norm_", "clip_grad_value_")),
    (torch, ("save",)),
    (torch.cuda, ("synchronize",)),
    (torch.optim.Optimizer, ("__init__", "zero_grad")),
    (torch.optim.SGD, ("step",)),
    (torch.utils.data.dataloader._BaseDataLoaderIter, ("__next__",)),
    (torch.utils.data.DataLoader, ("__iter__",)),
    (builtins, ("print",)),
]


def attributes() -> list[object]:
    return [vars(owner).get(n, "missing") for owner, names in PATCHED for n in names]


def parts() -> tuple[torch.nn.Module, torch.optim.Optimizer, DataLoader]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    data = TensorDataset(torch.randn(12, 4), torch.randn(12, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.1), DataLoader(data, 4)


def train(steps: list[int] | None = None) -> list[float]:
    model, optimizer, loader = parts()
    losses = []
    for x, y in loader:
        x.to("meta")
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        print(losses[-1], file=io.StringIO())
    torch.save(model.state_dict(), io.BytesIO())
    return losses


def test_everything_is_patched_and_put_back() -> None:
    parts()  # torch itself wraps a class's step at its first instance
    before = attributes()
    with hooked():
        during = attributes()
        assert not any(a is b for a, b in zip(before, during, strict=True))
    assert all(a is b for a, b in zip(before, attributes(), strict=True))


def test_restored_after_an_exception_and_over_a_later_patch() -> None:
    before = attributes()
    with pytest.raises(KeyError), hooked():
        raise KeyError
    assert all(a is b for a, b in zip(before, attributes(), strict=True))
    original = torch.save
    try:
        with hooked():
            torch.save = theirs = lambda *a, **k: None
        assert torch.save is theirs
    finally:
        torch.save = original


def test_phases_of_a_training_loop_and_unchanged_results() -> None:
    plain = train()
    cuts: list[int] = []
    with recording(Recorder()) as recorder, hooked(lambda: cuts.append(1)):
        recorder.lap()
        assert train() == plain
        lap = recorder.lap()
    assert len(cuts) == 3
    calls = {name: count for name, count in lap.calls.items() if name != "data_wait"}
    assert calls == {
        "h2d": 3,
        "zero_grad": 3,
        "forward": 3,
        "backward": 3,
        "clip": 3,
        "optimizer": 3,
        "loss_read": 3,
        "logging": 3,
        "checkpoint": 1,
    }
    assert lap.calls["data_wait"] == 5  # iter(), three batches, the end
    assert sum(lap.phases.values()) == lap.wall_s


def test_hooks_inside_a_phase_stay_with_it_but_a_named_phase_counts() -> None:
    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x.to("meta")
            with phase("augment"):
                x.sum().item()
                x = torch.nn.functional.relu(x)
            print(x.tolist(), file=io.StringIO())
            return x

    with recording(Recorder()) as recorder, hooked():
        net = Net()
        recorder.lap()
        net(torch.ones(2))
        with phase("validate"):
            net(torch.ones(2))
        lap = recorder.lap()
    assert lap.calls == {"forward": 1, "augment": 2, "validate": 1}


def test_a_pass_without_gradients_is_validation() -> None:
    with recording(Recorder()) as recorder, hooked():
        net = torch.nn.Linear(2, 1)
        recorder.lap()
        net(torch.ones(2)).backward()
        with torch.no_grad():
            net(torch.ones(2))
        lap = recorder.lap()
    assert lap.calls == {"forward": 1, "backward": 1, "validation": 1}


def test_only_copies_off_the_host_are_h2d() -> None:
    x = torch.ones(3)
    with recording(Recorder()) as recorder, hooked():
        recorder.lap()
        x.to(torch.float64)
        x.to("cpu")
        x.to(torch.ones(1))
        x.to(device="cpu", dtype=torch.float64)
        x.clone().copy_(x)
        assert recorder.lap().calls == {}
        x.to("meta")
        x.to(device=torch.device("meta"))
        x.to(torch.ones(1, device="meta"))
        torch.empty(3, device="meta").copy_(x)
        assert recorder.lap().calls == {"h2d": 4}
        with pytest.raises(RuntimeError):
            x.to("no such device")


def test_steps_inside_a_step_are_one_step() -> None:
    class Outer(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            super().__init__(inner.param_groups, {})
            self.inner = inner

        def step(self, closure: object = None) -> None:  # type: ignore[override]
            self.inner.step()
            self.inner.step()

    cuts: list[int] = []
    model, optimizer, _ = parts()
    with recording(Recorder()) as recorder, hooked(lambda: cuts.append(1)):
        outer = Outer(optimizer)
        model(torch.ones(1, 4)).sum().backward()
        recorder.lap()
        outer.step()
        with phase("mine"):
            optimizer.step()
        lap = recorder.lap()
    assert lap.calls == {"optimizer": 1, "mine": 1}
    assert len(cuts) == 2


def test_step_hooks_of_the_user_survive_the_restoring() -> None:
    class Fresh(torch.optim.Optimizer):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            pass

    calls: list[str] = []
    weight = torch.nn.Parameter(torch.ones(1))
    with recording(Recorder()) as recorder, hooked():
        optimizer = Fresh([weight], {})
        optimizer.register_step_post_hook(lambda *a: calls.append("hook"))
        recorder.lap()
        optimizer.step()
        assert recorder.lap().calls == {"optimizer": 1}
    optimizer.step()
    assert calls == ["hook", "hook"]
    assert not hasattr(Fresh.step, "__tfa_perf_hook__")


def test_compiled_graphs_are_whole() -> None:
    model, _, _ = parts()
    x = torch.ones(2, 4)
    expected = model(x)
    with recording(Recorder()) as recorder, hooked():

        @torch.compile(backend="eager", fullgraph=True)
        def compiled(x: torch.Tensor) -> torch.Tensor:
            with phase("inside"):
                y = x.to(torch.float32)
            return model(y)

        assert torch.equal(compiled(x), expected)
        recorder.lap()
        assert torch.equal(compiled(x), expected)
        assert recorder.lap().calls == {"forward": 1}
    torch.compiler.reset()


def test_libraries_are_hooked_on_import_and_none_is_imported() -> None:
    program = """
import sys
from tfa_perf.profile import Recorder, recording
from tfa_perf.profile.hooks import hooked
with recording(Recorder()) as recorder, hooked():
    assert not {"torch", "numba", "rich", "numpy"} & set(sys.modules), "imported"
    import importlib.util
    assert importlib.util.find_spec("numba.core.dispatcher").loader is not None
    import numba
    from rich.progress import Progress
    recorder.lap()
    assert numba.njit(lambda x: x + 1)(1) == 2
    with Progress(disable=True) as progress:
        progress.advance(progress.add_task("x", total=1))
    calls = recorder.lap().calls
    assert calls.pop("numba_compile") >= 1
    assert calls == {"logging": 1}, calls
    import wave
    assert "exec_module" not in vars(wave.__spec__.loader)
    assert "exec_module" not in vars(numba.core.dispatcher.__spec__.loader)
assert not hasattr(Progress.advance, "__wrapped__")
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "fine\n", done.stderr
