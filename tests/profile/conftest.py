from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tfa_perf.profile.__main__ import main

TRAIN = """
import sys
import time

import torch
from torch.utils.data import DataLoader, Dataset


class Rows(Dataset):
    def __len__(self):
        return 30

    def __getitem__(self, index):
        time.sleep(0.008)
        return torch.full((32,), float(index)), torch.ones(1)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(32, 1)

    def forward(self, x):
        time.sleep(0.012)
        return self.layer(x)


class SlowGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        time.sleep(0.01)
        return grad


def main():
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    criterion = torch.nn.MSELoss()
    for x, y in DataLoader(Rows(), batch_size=1):
        x.to("meta")
        optimizer.zero_grad()
        loss = criterion(SlowGrad.apply(model(x)), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        print(f"{loss.item():.6f}")
        time.sleep(0.006)
    torch.save(model.state_dict(), sys.argv[1])


if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Programs under test are small: torch's threads would only wait for each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session")
def two_at_a_time() -> Callable[..., dict[Any, Any]]:
    """Calls a function with each key, two at a time, and gives the results by key."""

    def run(function: Callable[[Any], Any], keys: Iterable[Any]) -> dict[Any, Any]:
        with ThreadPoolExecutor(2) as pool:
            return dict(zip(found := list(keys), pool.map(function, found), strict=True))

    return run


@pytest.fixture(scope="session")
def stock_script() -> str:
    """A stock torch script of 30 steps, each about 8 ms data, 12 forward, 10 backward, 6 other."""
    return TRAIN


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "script.py"
        path.write_text(text)
        return path

    return write


@pytest.fixture(scope="session")
def environment(one_thread: None) -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def profile_command(
    tmp_path: Path, environment: dict[str, str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``python -m tfa_perf.profile --out tmp_path/out ARGS``."""

    def run(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tfa_perf.profile", "--out", str(tmp_path / "out"), *args],
            capture_output=True,
            text=True,
            timeout=100,
            cwd=tmp_path,
            env=options.pop("env", environment),
            **options,
        )

    return run


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs the command in this process, with arguments it refuses; its one line of error."""

    def run(*args: str) -> str:
        monkeypatch.chdir(tmp_path)
        try:
            code = main(["--out", str(tmp_path / "out"), *args])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        printed = capsys.readouterr()
        assert code == 2, printed.err
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        return line

    return run


class Browser:
    """A headless Chromium, spoken to in the DevTools protocol over two pipes."""

    def __init__(self, program: str, profile: Path) -> None:
        (read_from, answers), (commands, write_to) = os.pipe(), os.pipe()
        # Chromium reads commands on descriptor 3 and answers on 4: ours must be neither.
        to_us, from_us = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (answers, commands))
        shell = f'exec 3<&{from_us} 4>&{to_us}; exec "$0" "$@"'
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-quic",
        ]
        options += ["--disable-background-networking", "--disable-component-update"]
        options += ["--disable-dev-shm-usage", "--remote-debugging-pipe"]
        options += [f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", shell, program, *options, "about:blank"],
            pass_fds=(from_us, to_us),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for end in (answers, commands, to_us, from_us):
            os.close(end)
        self._in = os.fdopen(read_from, "rb")
        self._out = os.fdopen(write_to, "wb", buffering=0)
        self._number = 0
        self._session: str | None = None

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._read())
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> bytes:
        text = bytearray()
        while (byte := self._in.read(1)) != b"\0":
            assert byte, "Chromium has gone away"
            text += byte
        return bytes(text)

    def open(self, path: Path, width: int, height: int = 900) -> None:
        """Show a page and wait until its chart is drawn."""
        self._session = None
        page = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)
        self.send("Page.navigate", url=path.as_uri())
        self.wait("document.querySelectorAll('#flame .slice').length > 0")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, condition: str, limit_s: float = 20.0) -> None:
        """Wait until a JavaScript condition holds."""
        deadline = time.monotonic() + limit_s
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"still not so: {condition}"
            time.sleep(0.05)

    def click(self, text: str) -> None:
        """Click the middle of the box whose label starts with `text`, with the mouse."""
        box = self.run(
            "(() => {const s = [...document.querySelectorAll('#flame .slice')].find(s => "
            f"s.textContent.startsWith({json.dumps(text)}));"
            "const b = s.querySelector('path').getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]})()"
        )
        at = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
        self.send("Input.dispatchMouseEvent", type="mousePressed", **at)
        self.send("Input.dispatchMouseEvent", type="mouseReleased", **at)

    def boxes(self) -> dict[str, float]:
        """Width in pixels of each box that can be seen, by its label."""
        found: dict[str, float] = self.run(
            "Object.fromEntries([...document.querySelectorAll('#flame .slice')].map(s => "
            "[s.textContent, s.querySelector('path').getBoundingClientRect().width]))"
        )
        return found

    def close(self) -> None:
        self._in.close()
        self._out.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, where there is one; the test is skipped elsewhere."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no Chromium on PATH: looked for {', '.join(names)}")
    started = Browser(program, tmp_path_factory.mktemp("chromium"))
    yield started
    started.close()
