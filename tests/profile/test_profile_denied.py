"""Real denials: ptrace refused by a seccomp filter, no root, a full disk, a program that dies."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

# Installs a filter that py-spy inherits. ptrace, process_vm_readv and process_vm_writev give EPERM,
# and so does lseek to an address, by which py-spy would read /proc/PID/mem instead.
NO_PTRACE = """
import ctypes, os, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
lseek, *denied = {
    "x86_64": (8, 101, 310, 311), "aarch64": (62, 117, 270, 271)
}[os.uname().machine]

def op(code, k, yes=0, no=0):
    return struct.pack("HBBI", code, yes, no, k)

LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
program = op(LOAD, 0)  # the system call's number
program += op(EQUAL, denied[0], 7) + op(EQUAL, denied[1], 6) + op(EQUAL, denied[2], 5)
program += op(EQUAL, lseek, 0, 3)
# The high half of its offset: 0 in files, and negative offsets count from the end.
program += op(LOAD, 28) + op(EQUAL, 0, 1, 0) + op(AT_LEAST, 0x80000000, 0, 1)
program += op(RETURN, 0x7FFF0000) + op(RETURN, 0x00050001)  # allow; EPERM

class Filter(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges, which a filter without root needs
filter = Filter(len(program) // 8, program)
if libc.prctl(22, 2, ctypes.byref(filter), 0, 0) != 0:
    sys.exit(77)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
NOBODY = """
import os, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
os.environ["HOME"] = os.getcwd()
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
BUSY = "import time; time.sleep(0.4); print('done'); raise SystemExit(4)"

linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="seccomp filters are Linux's",
)


def launch(
    launcher: str, environment: dict[str, str], folder: Path, *args: str
) -> subprocess.CompletedProcess[str]:
    path = folder / "launcher.py"
    path.write_text(launcher)
    done = subprocess.run(
        [sys.executable, str(path), *args],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 77:
        pytest.skip("this kernel takes no seccomp filter")
    return done


def stacks_line(stderr: str) -> str:
    (line,) = [line for line in stderr.splitlines() if line.startswith("stacks: ")]
    return line


@linux
def test_ptrace_denied_by_seccomp(
    script: Callable[[str], Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    args = ("-m", "tfa_perf.profile", "--out", "o")
    done = launch(NO_PTRACE, environment, tmp_path, *args, "--", str(script(BUSY)))
    assert done.returncode == 4, done.stderr
    assert done.stdout == "done\n"
    assert stacks_line(done.stderr).startswith("stacks: inprocess, py-spy could not attach: ")
    assert "sleep" not in done.stderr
    assert "<module> (script.py" in (tmp_path / "o" / "stacks.collapsed").read_text()
    assert (tmp_path / "o" / "flame.html").exists()


@linux
def test_running_process_denied_by_seccomp(
    script: Callable[[str], Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    target = subprocess.Popen([sys.executable, str(script("import time; time.sleep(60)"))])
    try:
        time.sleep(0.3)
        args = ("-m", "tfa_perf.profile", "--out", "o", "--pid", str(target.pid))
        done = launch(NO_PTRACE, environment, tmp_path, *args)
    finally:
        target.kill()
        target.wait()
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    for words in ("not allowed", "sudo", "ptrace_scope", "SYS_PTRACE"):
        assert words in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to give up root"
)
def test_as_another_user_than_root(
    script: Callable[[str], Path], environment: dict[str, str]
) -> None:
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="tfa-perf-nobody-"))
    try:
        folder.chmod(0o777)
        path = shutil.copy(script(BUSY), folder / "script.py")
        readable = launch(NOBODY, environment, folder, "-c", "import tfa_perf.profile.sampler")
        if readable.returncode:
            pytest.skip("another user cannot read this interpreter or its packages")
        done = launch(
            NOBODY, environment, folder, "-m", "tfa_perf.profile", "--out", "o", "--", str(path)
        )
        assert done.returncode == 4, done.stderr
        assert done.stdout == "done\n"
        # Where the system lets a user look into processes of their own, py-spy attaches.
        assert stacks_line(done.stderr).split(",")[0] in ("stacks: pyspy", "stacks: inprocess")
        assert (folder / "o" / "stacks.collapsed").read_text()
        assert (folder / "o" / "run.json").stat().st_uid == 65534
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("raise SystemExit(3)\nimport torch", 3),
        ("import os; os._exit(5)", 5),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
    ],
)
def test_program_that_dies_at_once_is_still_reported(
    body: str,
    code: int,
    script: Callable[[str], Path],
    tmp_path: Path,
    profile_command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = profile_command("--", str(script(body)))
    assert done.returncode == code, done.stderr
    assert f"exit code {code}" in done.stderr
    stacks_line(done.stderr)
    assert "Traceback" not in done.stderr
    assert ("no phase times" in done.stderr) == (code != 3)
    for name in ("run.json", "flame.html"):
        assert (tmp_path / "out" / name).exists()


def test_forked_child_that_lives_on_is_not_waited_for(
    script: Callable[[str], Path],
    profile_command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    path = script(
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    null = os.open(os.devnull, os.O_RDWR)\n"
        "    os.dup2(null, 1); os.dup2(null, 2)\n"
        "    end = time.time() + 40\n"
        "    while time.time() < end: time.sleep(0.1)\n"
        "    os._exit(0)\n"
        "time.sleep(0.3)\n"
    )
    started = time.monotonic()
    done = profile_command("--", str(path))
    assert time.monotonic() - started < 30
    assert done.returncode == 0, done.stderr
    assert stacks_line(done.stderr).startswith("stacks: pyspy, attached")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts a small disk")
def test_full_disk_keeps_the_exit_code(
    script: Callable[[str], Path],
    tmp_path: Path,
    profile_command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    small = tmp_path / "out"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    try:
        done = profile_command("--", str(script(BUSY)))
        assert done.returncode == 4, done.stderr
        assert done.stdout == "done\n"
        # The page alone is larger than the disk; what fits is there, and no half files.
        (line,) = [line for line in done.stderr.splitlines() if "cannot write" in line]
        assert "flame.html" in line
        assert os.strerror(errno.ENOSPC) in line
        assert (small / "run.json").exists()
        assert not list(small.glob("*.partial"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_interrupt_of_the_whole_group(
    script: Callable[[str], Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tfa_perf.profile", "--out=o", "--",
         str(script("print('up', flush=True)\nimport time\ntime.sleep(60)"))],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert (tmp_path / "o" / "run.json").exists()
    assert (tmp_path / "o" / "stacks.collapsed").exists()


@linux
def test_the_doctor_tells_of_the_denial(environment: dict[str, str], tmp_path: Path) -> None:
    code = "from tfa_perf.doctor.permissions import sampling; print(sampling())"
    done = launch(NO_PTRACE, environment, tmp_path, "-c", code)
    assert "py-spy could not attach" in done.stdout
    assert "--cap-add SYS_PTRACE" in done.stdout
