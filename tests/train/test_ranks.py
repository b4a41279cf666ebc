"""Several processes, started by torchrun, against one."""

import json
import signal
import tempfile
import textwrap
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as run_torchrun

from tfa_perf.config import ModelConfig, TrainConfig, load_config
from tfa_perf.data.loader import WindowLoader
from tfa_perf.train.checkpoint import read_checkpoint
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.ranks import Ranks
from tfa_perf.train.trainer import Trainer


def _out_of_time(number, frame):
    raise TimeoutError("torchrun has not ended")


def torchrun(*args, folder):
    """Run two processes; returns an exit code and what each printed, (stdout, stderr).

    torchrun's own process is this one, which has imported torch.
    """
    logs = Path(tempfile.mkdtemp(prefix="logs", dir=folder))
    options = ["--standalone", "--nproc-per-node", "2", "--redirects", "3", "--log-dir", logs]
    # torchrun takes the signals of its process and does not give them back.
    handlers = {n: signal.getsignal(n) for n in signal.valid_signals()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        signal.signal(signal.SIGALRM, _out_of_time)
        signal.alarm(240)
        # torchrun sets it where it is not set.
        patch.setenv("OMP_NUM_THREADS", "1")
        # The ranks of --compile share the cores: no pool of compilers, each of which imports torch.
        patch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
        try:
            run_torchrun([*map(str, options), *map(str, args)])
            code = 0
        except ChildFailedError as failed:
            code = failed.get_first_failure()[1].exitcode
        finally:
            signal.alarm(0)
            for number, handler in handlers.items():
                if signal.getsignal(number) is not handler:
                    signal.signal(number, handler)
    printed = []
    for rank in range(2):
        (where,) = logs.glob(f"*/attempt_0/{rank}")
        printed.append([(where / f"{name}.log").read_text() for name in ("stdout", "stderr")])
    return code, printed


# The same source makes the runs here and in the processes: the table has a number of windows that
# leaves one window to the last step of a pass, so none to the first of two ranks.
RUNS = """
import json
import sys

import numpy as np
import torch

from tfa_perf.config import ModelConfig, TrainConfig
from tfa_perf.data.device_windows import ResidentWindows
from tfa_perf.data.loader import WindowLoader
from tfa_perf.data.table import Table, WindowForm
from tfa_perf.train import evaluate
from tfa_perf.train.fixed_shape import FixedShapeStep
from tfa_perf.train.model import WindowEncoder
from tfa_perf.train.ranks import Ranks, torchrun_ranks
from tfa_perf.train.trainer import Trainer

CASES = {
    "plain": {"windows": 161},
    "accumulated": {"windows": 161, "accumulation": 3, "micro_batch": 5, "clip_norm": 0.05},
    "cosine": {"windows": 151, "schedule": "cosine", "clip_norm": None},
    "fixed shape": {"windows": 151, "accumulation": 2},
    "at once": {"windows": 151, "graph_steps": 3, "schedule": "cosine"},
}


def table(windows):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((windows + 5, 5), dtype=np.float32)
    return X, (X[:, 0] > 0).astype(np.float32)


def losses(case, ranks):
    options = dict(CASES[case])
    windows = options.pop("windows")
    X, y = table(windows)
    # Other weights on each rank, of which those of rank 0 must win.
    torch.manual_seed(ranks.rank)
    model = WindowEncoder(5, ModelConfig(d_model=16, nhead=2, num_layers=2, ffn_hidden=24))
    loader = WindowLoader(
        X, y, window=6, batch_size=16 // ranks.world_size, shuffle=True, seed=3,
        rank=ranks.rank, world_size=ranks.world_size,
    )
    config = TrainConfig(epochs=5, lr=3e-3, amp="off", **options)
    trainer = Trainer(model, loader, config, "cpu", ranks=ranks)
    if case == "at once":
        form = WindowForm(6, 0, torch.float32, None, False)
        loader._source = ResidentWindows(Table.of(X, y), form, torch.device("cpu"))
    if case in ("fixed shape", "at once"):
        trainer.step = FixedShapeStep(
            model, trainer.optimizer, loader, criterion=trainer.step._criterion,
            clip_norm=config.clip_norm, accumulation=config.accumulation,
            micro_batch=config.micro_batch, bf16=False, compile=False, ranks=ranks,
            graph_steps=config.graph_steps, rates=trainer._rates_to_come,
        )
    steps = [
        (step.epoch, step.windows, step.loss.item(), step.steps) for step in trainer.steps()
    ]
    assert sum(taken for *_, taken in steps) == trainer.done == trainer.total
    logits = model.eval()(torch.from_numpy(X[:60].reshape(10, 6, 5))).flatten().tolist()
    return {
        "steps": steps,
        "mean": trainer.step.mean_loss(),
        "logits": logits,
        "read": loader.stats()["windows"],
    }


def validations(ranks):
    torch.manual_seed(0)
    model = WindowEncoder(5, ModelConfig(d_model=16, nhead=2, num_layers=2, ffn_hidden=24))
    found = {}
    # The last step of 97 has one window, of the second rank alone; that of 107 has 5 and 6.
    for windows in (96, 97, 107):
        loader = WindowLoader(
            *table(windows), window=6, batch_size=16 // ranks.world_size,
            rank=ranks.rank, world_size=ranks.world_size,
        )
        figures = evaluate(model, loader, TrainConfig(amp="off"), "cpu", ranks=ranks)
        found[str(windows)] = [*figures, loader.stats()["windows"]]
    return found


def main():
    with torchrun_ranks(torch.device("cpu")) as ranks:
        result = {case: losses(case, ranks) for case in CASES}
        result["validations"] = validations(ranks)
        X, y = table(161)
        loader = WindowLoader(X, y, window=6, batch_size=8, shuffle=True, return_index=True)
        result["rows"] = [end for *_, ends in loader for end in ends.tolist()]
        with open(f"{ranks.rank}.json", "w") as file:
            json.dump(result, file)
"""


@pytest.fixture(scope="module")
def both_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "runs.py").write_text(RUNS + "\n\nmain()\n")
    code, printed = torchrun("runs.py", folder=folder)
    assert code == 0, printed
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone():
    names = {}
    exec(RUNS, names)
    result = {case: names["losses"](case, Ranks()) for case in names["CASES"]}
    return result | {"validations": names["validations"](Ranks())}


@pytest.mark.parametrize("case", ["plain", "accumulated", "cosine", "fixed shape", "at once"])
def test_two_processes_take_the_steps_of_one(both_ranks, alone, case):
    expected = alone[case]
    assert len(expected["steps"]) >= 20
    assert expected["steps"][-1][1] < expected["steps"][0][1]
    assert expected["steps"][0][3] == (3 if case == "at once" else 1)
    for rank in both_ranks:
        got = rank[case]
        for part in (slice(2), slice(3, None)):
            assert [s[part] for s in got["steps"]] == [list(s[part]) for s in expected["steps"]]
        want = [step[2] for step in expected["steps"]]
        assert [step[2] for step in got["steps"]] == pytest.approx(want, rel=2e-4)
        assert got["steps"][0][2] == pytest.approx(want[0], rel=1e-6)
        assert got["mean"] == pytest.approx(expected["mean"], rel=1e-4)
        assert got["logits"] == pytest.approx(expected["logits"], abs=2e-3)
    # Each window is read once, by one of them.
    read = [rank[case].pop("read") for rank in both_ranks]
    assert sum(read) == expected["read"]
    assert abs(read[0] - read[1]) <= 7
    # Not only close: ranks that drift apart would decide differently.
    assert both_ranks[0][case] == both_ranks[1][case]


def test_two_processes_validate_as_one_where_windows_do_not_divide(both_ranks, alone):
    for windows, (*figures, read) in alone["validations"].items():
        first, second = (rank["validations"][windows] for rank in both_ranks)
        assert first[:3] == second[:3] == pytest.approx(figures, rel=1e-5)
        assert first[3] + second[3] == read == int(windows)
        assert [first[3], second[3]] == [int(windows) // 2, -(-int(windows) // 2)]


def test_each_rank_reads_its_share_alone(both_ranks):
    rows = [rank["rows"] for rank in both_ranks]
    assert [len(own) for own in rows] == [80, 81]
    assert sorted(rows[0] + rows[1]) == list(range(5, 166))


def test_a_loader_that_shares_otherwise_is_refused(table):
    X, y = table(60)
    model = WindowEncoder(5, ModelConfig(d_model=16, nhead=2, num_layers=1, ffn_hidden=24))
    shared = WindowLoader(X, y, window=6, rank=0, world_size=2)
    with pytest.raises(ValueError, match=r"one of 2 shares.*ranks=Ranks\.of_torch\(\)"):
        Trainer(model, shared, TrainConfig(), "cpu")


TINY = [
    "model.d_model=8",
    "model.nhead=2",
    "model.num_layers=1",
    "model.ffn_hidden=8",
    "data.window=8",
    "train.batch_size=500",
    "train.epochs=4",
    "train.checkpoint_every=1",
    "train.schedule=cosine",
]
COMMAND = ["-m", "tfa_perf.train", "--device", "cpu", *(p for key in TINY for p in ("--set", key))]


def rows_of(logged, folder):
    return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in logged(folder)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, fit, logged):
    folder = tmp_path_factory.mktemp("whole")
    fit(load_config("tuned", TINY), folder, bars="sample")
    return rows_of(logged, folder)


def same_rows(got, expected):
    assert len(got) == len(expected) == 4
    for own, other in zip(got, expected, strict=True):
        assert own == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_a_run_goes_on_with_another_number_of_processes(whole, tmp_path, fit, logged, compiled):
    options = ("--csv-log", tmp_path / "log.csv", "--checkpoints", tmp_path)
    # Stops inside the second epoch, and again inside the third.
    code, printed = torchrun(*COMMAND, *options, "--steps", 6, folder=tmp_path)
    assert code == 0, printed
    assert "on 2 processes" in printed[0][0]
    assert printed[1] == ["", ""]
    assert len(read_checkpoint(tmp_path / "last.pt")["trainer"]["random"]) == 2
    fit(load_config("tuned", TINY), tmp_path, bars="sample", max_steps=10, resume=True)
    options += ("--compile",) * compiled + ("--resume", "--out", "model.pt")
    code, printed = torchrun(*COMMAND, *options, folder=tmp_path)
    assert code == 0, printed
    assert "resumed after step 10" in printed[0][0]
    assert printed[1] == ["", ""]
    rows = [row for row in rows_of(logged, tmp_path) if row["step"] % 4 == 0]
    same_rows(rows, whole)
    assert (tmp_path / "model.pt").exists()
    assert (tmp_path / "best.pt").exists()


@pytest.mark.parametrize(
    ("bars", "words"),
    [
        # Rank 1 alone fails, before it has joined the other.
        ('"sample" if rank == "0" else "none.csv"', "rank 1: error: none.csv"),
        # Other bars on each host: all see it.
        ('"synthetic:3000:" + rank', "bars: differs between process 0 and process 1"),
    ],
)
def test_input_that_fails_on_one_rank_ends_the_job(tmp_path, bars, words):
    (tmp_path / "failing.py").write_text(
        "import os, sys\n"
        "from tfa_perf.train.__main__ import main\n"
        'rank = os.environ["RANK"]\n'
        f'sys.exit(main([*sys.argv[1:], "--bars", {bars}]))\n'
    )
    done, printed = torchrun("failing.py", *COMMAND[2:], folder=tmp_path)
    assert done != 0
    assert words in printed[1][1]
    assert "Traceback" not in printed[1][1]


def test_a_rank_that_fails_in_a_step_ends_the_job(tmp_path):
    (tmp_path / "failing.py").write_text(
        RUNS
        + textwrap.dedent(
            """
            class Failing(WindowEncoder):
                calls = 0

                def forward(self, x):
                    Failing.calls += 1
                    if self.rank == 1 and Failing.calls == 3:
                        raise ArithmeticError("rank 1 has had enough")
                    return super().forward(x)


            with torchrun_ranks(torch.device("cpu")) as ranks:
                X, y = table(161)
                model = Failing(5, ModelConfig(d_model=16, nhead=2, num_layers=1, ffn_hidden=24))
                model.rank = ranks.rank
                loader = WindowLoader(X, y, window=6, batch_size=8)
                for step in Trainer(model, loader, TrainConfig(), "cpu", ranks=ranks).steps():
                    pass
            """
        )
    )
    code, printed = torchrun("failing.py", folder=tmp_path)
    assert code != 0
    assert "rank 1 has had enough" in printed[1][1]
