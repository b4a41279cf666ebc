"""A run that was interrupted ends with the bits of one that was not."""

import io
import multiprocessing
import re
import signal
import sys
import time

import pytest
import torch
from rich.console import Console

from tfa_perf.cli import main
from tfa_perf.config import TrainConfig, load_config
from tfa_perf.data.bars import load_bars
from tfa_perf.train.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from tfa_perf.train.run import train
from tfa_perf.train.trainer import Trainer

CONFIG = TrainConfig(
    epochs=3, accumulation=2, schedule="cosine", warmup_steps=4, lr=3e-3, amp="off", micro_batch=20
)


def make_trainer(encoder, window_loader, seed=0, **changes):
    model = encoder(seed, dropout=0.2)
    loader = window_loader(rows=200, shuffle=True, seed=3)
    return Trainer(model, loader, CONFIG.model_copy(update=changes), "cpu")


def rest_of(trainer):
    return [(step.epoch, step.windows, step.loss.item()) for step in trainer.steps()]


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 8, 12])
def test_resumed_runs_go_on_bit_for_bit(encoder, window_loader, tmp_path, stop):
    whole = make_trainer(encoder, window_loader)
    torch.manual_seed(11)
    expected = rest_of(whole)
    assert len(expected) == whole.total == 12

    first = make_trainer(encoder, window_loader)
    torch.manual_seed(11)
    steps = first.steps()
    for _ in range(stop):
        next(steps)
    write_checkpoint(tmp_path / "last.pt", first.state_dict())

    # Another start and other random numbers, which the checkpoint replaces.
    second = make_trainer(encoder, window_loader, seed=99)
    torch.manual_seed(5)
    second.load_state_dict(read_checkpoint(tmp_path / "last.pt"))
    assert rest_of(second) == expected[stop:]
    for key, value in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[key], value), key
    for own, other in zip(
        second.optimizer.state.values(), whole.optimizer.state.values(), strict=True
    ):
        assert all(torch.equal(own[name], other[name]) for name in other)
    assert second.step.mean_loss() == whole.step.mean_loss()


def test_a_state_of_another_model_is_refused_and_changes_nothing(encoder, window_loader):
    trainer = make_trainer(encoder, window_loader)
    other = Trainer(
        encoder(1, ffn_hidden=32), window_loader(rows=200), TrainConfig(), "cpu"
    ).state_dict()
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"linear.*32.*24"):
        trainer.load_state_dict(other)
    assert all(torch.equal(trainer.model.state_dict()[key], value) for key, value in before.items())


TINY = [
    "model.d_model=8",
    "model.nhead=2",
    "model.num_layers=1",
    "model.ffn_hidden=8",
    "model.dropout=0.1",
    "data.window=8",
    "train.batch_size=512",
    "train.epochs=3",
    "train.checkpoint_every=1",
    "train.schedule=cosine",
]


def run_here(folder, *changes, **options):
    config = load_config("tuned", [*TINY, *changes])
    screen = io.StringIO()
    model = train(
        config,
        load_bars("sample"),
        torch.device("cpu"),
        checkpoints=folder,
        console=Console(file=screen, width=200),
        **options,
    )
    return model, screen.getvalue()


def train_in_threads(threads, arguments):
    torch.set_num_threads(threads)
    sys.exit(main(arguments))


def epoch_lines(text):
    return [line for line in text.splitlines() if line.startswith("epoch ")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run_here(tmp_path_factory.mktemp("whole"))


def test_a_run_that_is_killed_again_and_again_ends_the_same(whole, tmp_path):
    arguments = ["train", "--config", "tuned", "--device", "cpu"]
    arguments += [part for key in TINY for part in ("--set", key)]
    arguments += ["--checkpoints", str(tmp_path / "run")]
    # Processes of their own, forked from one that has imported all and has no threads yet.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tfa_perf.train.__main__", "torch._dynamo"])
    last = tmp_path / "run" / "last.pt"
    out = tmp_path / "model.pt"
    for kill in range(4):
        resume = ["--resume"] if last.exists() else []
        before = last.stat().st_mtime_ns if last.exists() else 0
        process = server.Process(
            target=train_in_threads, args=(torch.get_num_threads(), [*arguments, *resume])
        )
        process.start()
        while process.is_alive() and (not last.exists() or last.stat().st_mtime_ns == before):
            time.sleep(0.001)
        time.sleep(0.007 * kill)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert read_checkpoint(last)["trainer"]["done"] > kill
    model, screen = run_here(tmp_path / "run", resume=True, out=out)
    assert "resumed after step" in screen
    for key, value in whole[0].state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert epoch_lines(whole[1])[-len(epoch_lines(screen)) :] == epoch_lines(screen)
    assert torch.load(out, weights_only=True)["model"].keys() == model.state_dict().keys()


def test_stopped_by_steps_and_resumed_the_lines_of_the_epochs_are_the_same(whole, tmp_path):
    run_here(tmp_path, max_steps=5)
    _, screen = run_here(tmp_path, resume=True)
    assert epoch_lines(screen) == epoch_lines(whole[1])[1:]
    # A run that has ended has nothing left to do.
    model, screen = run_here(tmp_path, resume=True)
    assert epoch_lines(screen) == []
    for key, value in whole[0].state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_best_is_the_model_with_the_lowest_validation_loss_and_patience_ends_the_run(tmp_path):
    # A rate at which training only destroys: the first epoch stays the best.
    changes = ["train.lr=3.0", "train.schedule=constant", "train.patience=2", "train.epochs=9"]
    _, screen = run_here(tmp_path, *changes)
    losses = [float(re.search(r"val loss (\S+)", line)[1]) for line in epoch_lines(screen)]
    best = losses.index(min(losses))
    assert len(losses) == best + 3 < 9
    assert "no lower validation loss for 2 epochs" in screen
    kept = torch.load(tmp_path / "best.pt", weights_only=True)
    last = torch.load(tmp_path / "last.pt", weights_only=True)
    assert last["stopping"] == {"best": pytest.approx(min(losses), abs=1e-5), "waited": 2}
    assert not torch.equal(kept["model"]["head.weight"], last["trainer"]["model"]["head.weight"])
    _, screen = run_here(tmp_path, *changes, resume=True)
    assert epoch_lines(screen) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("train.lr=0.5", r"train\.lr = 0\.001, here it is 0\.5"),
        ("model.ffn_hidden=16", r"model\.ffn_hidden = 8, here it is 16"),
        ("data.window=9", r"data\.window = 8"),
    ],
)
def test_another_config_is_refused(tmp_path, change, words):
    run_here(tmp_path, max_steps=1)
    with pytest.raises(CheckpointError, match=words):
        run_here(tmp_path, change, resume=True)


def test_how_many_steps_a_graph_has_may_differ(tmp_path):
    run_here(tmp_path, max_steps=1)
    _, screen = run_here(tmp_path, "train.graph_steps=4", resume=True, max_steps=2)
    assert "resumed after step 1" in screen


def test_other_bars_and_no_checkpoint_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        run_here(tmp_path, resume=True)
    run_here(tmp_path, max_steps=1)
    config = load_config("tuned", TINY)
    with pytest.raises(CheckpointError, match="other training rows"):
        train(
            config,
            load_bars("synthetic:3000"),
            torch.device("cpu"),
            checkpoints=tmp_path,
            resume=True,
            console=Console(file=io.StringIO()),
        )
