"""The one place where loops become compiled code: threads, fork, contention and cache policy."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite.binding import get_host_cpu_features
from numba.extending import intrinsic

# Typed stubs of numba differ between its versions.
_numba: Any = numba

_forked = False
_launched = False
_uncached_warned = False
_cache_folders: set[Path] = set()
# One parallel region at a time: numba's workqueue layer aborts the process on a second one.
_region = threading.Lock()


def _after_fork_in_child() -> None:
    global _forked, _region
    _forked = True
    # Another thread of the parent may have held the lock; nobody would release it here.
    _region = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def jit_disabled() -> bool:
    """Whether NUMBA_DISABLE_JIT has the loops run as plain Python."""
    return bool(_numba.config.DISABLE_JIT)


def compiled(twin: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: numba's intrinsic of the function, or ``twin`` where nothing is compiled."""
    return lambda function: twin if jit_disabled() else intrinsic(function)


def _njit(
    function: Callable[..., Any], *signature: Any, cached: bool = True, **options: Any
) -> Any:
    global _uncached_warned
    options = {"nogil": True, "error_model": "numpy"} | options
    try:
        kernel = _numba.njit(*signature, cache=cached, **options)(function)
        if cached and not jit_disabled():
            _cache_folders.add(Path(kernel.stats.cache_path))
        return kernel
    except RuntimeError as error:  # "no locator available": no cache directory can be written
        if not cached:
            raise
        if not _uncached_warned:
            _uncached_warned = True
            warnings.warn(
                f"tfa_kernels compiles anew in every process: {error}. "
                "Set NUMBA_CACHE_DIR to a writable directory.",
                RuntimeWarning,
                stacklevel=3,
            )
        return _numba.njit(*signature, cache=False, **options)(function)


def cache_folders() -> set[Path]:
    """Return the folders that compiled kernels are kept in; none where nothing can be written."""
    return set(_cache_folders)


def _vector_width() -> int:
    """Values of float32 in a register: 16 where the host's AVX-512 is compiled for, else 8."""
    chosen = _numba.config.CPU_NAME is not None or _numba.config.CPU_FEATURES is not None
    if jit_disabled() or chosen:
        return 8
    return 16 if get_host_cpu_features().get("avx512f") else 8


VECTOR_WIDTH = _vector_width()


def _sources_digest() -> str:
    digest = hashlib.sha256(bytes([VECTOR_WIDTH]))
    for path in sorted(Path(__file__).parent.glob("_*_nb.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


_DIGEST = _sources_digest()


def _named_copy(function: types.FunctionType, suffix: str) -> types.FunctionType:
    """The same function under a name of its own in numba's cache.

    Numba names cache files by qualname and stamps them with the function's own file. So a change in
    a callee's file would leave old code in use, and the serial and the parallel code of one loop,
    which the key does not tell apart, would replace each other. Nor does it tell apart the widths
    of vectors, where a CPU that the environment names is the host's own.
    """
    copy = types.FunctionType(
        function.__code__,
        function.__globals__,
        f"{function.__name__}_{suffix}",
        function.__defaults__,
        function.__closure__,
    )
    copy.__qualname__ = f"{function.__qualname__}_{suffix}_{_DIGEST}"
    copy.__module__ = function.__module__
    copy.__doc__ = function.__doc__
    return copy


def inline_kernel(function: Callable[..., Any]) -> Any:
    """Compile a callee of a parallel kernel; it may live in any ``_*_nb.py`` file."""
    return _numba.njit(nogil=True, error_model="numpy")(function)


def compile_signature(function: types.FunctionType, signature: Any, *, cached: bool) -> Any:
    """Compile a loop for one signature at once; return its numba dispatcher."""
    kernel = _named_copy(function, "addressed") if cached else function
    # Nothing but compiled code calls it.
    return _njit(kernel, signature, cached=cached, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def resolve_threads(num_threads: int | None) -> int:
    """Return how many threads a launch will use; 1 in a forked child.

    ``None`` means numba's current setting in this thread.

    Raises
    ------
    TypeError : not an integer.
    ValueError : outside 1..numba.config.NUMBA_NUM_THREADS.
    """
    limit = int(_numba.config.NUMBA_NUM_THREADS)
    if num_threads is not None:
        if isinstance(num_threads, (bool, np.bool_)) or not isinstance(
            num_threads, (int, np.integer)
        ):
            raise TypeError(f"num_threads must be an int or None, got {num_threads!r}")
        if not 1 <= num_threads <= limit:
            raise ValueError(
                f"num_threads is {num_threads}; allowed: 1..{limit} "
                "(raise the limit with the environment variable NUMBA_NUM_THREADS)"
            )
    if _forked or jit_disabled() or limit == 1:
        return 1
    return int(num_threads) if num_threads is not None else _current_threads()


def _current_threads() -> int:
    _launch_pool()
    return int(numba.get_num_threads())


def _launch_pool() -> None:
    """Start numba's thread pool once, leaving torch's thread count as it was.

    Starting the OpenMP pool sets the OpenMP thread count of the calling thread, and torch reads
    its own count from there when both use one OpenMP library.
    """
    global _launched
    if _launched:
        return
    torch = sys.modules.get("torch")
    get_threads = getattr(torch, "get_num_threads", None)
    before = get_threads() if get_threads is not None else None
    numba.get_num_threads()
    if torch is not None and get_threads is not None and get_threads() != before:
        torch.set_num_threads(before)
    _launched = True


def _is_workqueue_elsewhere() -> bool:
    """Whether this is not the main thread and numba's layer is workqueue.

    That one aborts the process on a region inside another or beside it: here it may be a caller's
    own prange that this thread works for, or that the main thread is in.
    """
    main = threading.current_thread() is threading.main_thread()
    return not main and bool(_numba.threading_layer() == "workqueue")


class ParallelKernel:
    """A loop compiled twice: across threads, and as a serial twin.

    The twin runs where the parallel code cannot: with one thread, in a forked child (OpenMP kills
    it at its first parallel region), while another thread is inside a parallel kernel, and where
    the workqueue layer may be at work for somebody else. Both give the same bits as long as the
    loop's iterations write disjoint elements.
    """

    def __init__(self, function: types.FunctionType) -> None:
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self._parallel = _njit(_named_copy(function, "parallel"), parallel=True)
        self._serial = _njit(_named_copy(function, "serial"), parallel=False)

    def __call__(self, *args: Any, num_threads: int | None = None) -> Any:
        threads = resolve_threads(num_threads)
        if jit_disabled():
            with np.errstate(all="ignore"):
                return self._serial(*args)
        # The lock object is bound once: a fork in between replaces the global one.
        region = _region
        if threads == 1 or not region.acquire(blocking=False):
            return self._serial(*args)
        try:
            _launch_pool()
            if _is_workqueue_elsewhere():
                return self._serial(*args)
            before = numba.get_num_threads()
            numba.set_num_threads(threads)
            try:
                return self._parallel(*args)
            finally:
                numba.set_num_threads(before)
        finally:
            region.release()


def serial_kernel(function: Callable[..., Any]) -> Any:
    """Compile a pure loop to be called from Python, without threads."""
    if not isinstance(function, types.FunctionType):
        raise TypeError(f"serial_kernel takes a plain Python function, got {function!r}")
    return _njit(_named_copy(function, "serial"))


def parallel_kernel(function: Callable[..., Any]) -> ParallelKernel:
    """Compile a pure loop over ``numba.prange`` into a :class:`ParallelKernel`."""
    if not isinstance(function, types.FunctionType):
        raise TypeError(f"parallel_kernel takes a plain Python function, got {function!r}")
    return ParallelKernel(function)
