"""CPU threads of a run, set once for torch and Numba."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tfa_kernels._jit import resolve_threads
from tfa_perf.config import ConfigError

__all__ = ["torch_threads"]


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Torch computes with ``threads`` threads in here; the number before comes back after it.

    None leaves the number alone. Numba's kernels take theirs call by call (``num_threads`` of
    the loader) and are bound by the same limit.

    Raises ConfigError for more threads than Numba may start, which is the CPUs that this process
    may use unless ``NUMBA_NUM_THREADS`` says otherwise.
    """
    if threads is None:
        yield
        return
    try:
        resolve_threads(threads)
    except ValueError as error:
        raise ConfigError(f"train.threads: {error}") from None
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
