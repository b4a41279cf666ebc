"""Where partitions are built: in this process, in local ones, or on a Dask cluster."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tfa_perf import __version__
from tfa_perf.universe.partition import greet

if TYPE_CHECKING:
    from distributed import LocalCluster

__all__ = ["ClusterError", "Here", "OnDask", "UsageError", "Workers", "pick_workers"]

_PATIENCE_S = 30
# They are one from Python 3.11 on.
_TIMEOUTS = (TimeoutError, asyncio.TimeoutError)


class UsageError(ValueError):
    """Arguments that cannot be used; the message names them and the fix."""


class ClusterError(RuntimeError):
    """A cluster that cannot be reached or used, or that was lost; the message says why."""


class Workers(Protocol):
    """Processes that call functions."""

    def meet(self, folder: Path | None = None) -> None:
        """Make sure that they are there and can build what is planned in ``folder``.

        Raises ClusterError.
        """

    def run(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        """The number of each call and its result, or the exception it ended with, as they end.

        Raises ClusterError where the cluster is lost.
        """
        ...

    def close(self, *, at_once: bool) -> None:
        """End the processes that were started here; ``at_once``, whatever they do."""


class Here:
    """This process, one call after the other."""

    def meet(self, folder: Path | None = None) -> None:
        greet(folder)

    def run(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        for number, arguments in enumerate(calls):
            try:
                result = function(*arguments)
            except Exception as error:
                result = error
            yield number, result

    def close(self, *, at_once: bool) -> None:
        pass


class OnDask:
    """Workers of a Dask cluster: that at ``scheduler``, or ``workers`` local processes.

    A task whose worker is lost goes to another; Dask gives up one that costs worker after worker.
    Raises ClusterError where the scheduler does not answer, or a worker has another tfa-perf.
    """

    def __init__(self, scheduler: str | None, workers: int) -> None:
        from distributed import Client

        self._cluster = None if scheduler is not None else _local_cluster(workers)
        self._where = "the local cluster" if scheduler is None else scheduler
        # By its address: given the cluster itself, the client waits for all workers.
        address = scheduler if self._cluster is None else self._cluster.scheduler_address
        try:
            self._client = Client(address, timeout=_PATIENCE_S, set_as_default=False)
        except BaseException as error:
            _kill(self._cluster)
            if not isinstance(error, (OSError, ValueError, *_TIMEOUTS)):
                raise
            raise ClusterError(
                f"scheduler: {scheduler!r} does not answer: {error}; give the address that "
                "dask scheduler prints, as tcp://host:8786"
            ) from error
        try:
            self._client.wait_for_workers(1, timeout=_PATIENCE_S)
            self.meet()
        except BaseException as error:
            self.close(at_once=True)
            if not isinstance(error, _TIMEOUTS):
                raise
            raise ClusterError(
                f"{self._where}: has no worker; start some with dask worker"
            ) from None

    def meet(self, folder: Path | None = None) -> None:
        answers = self._client.run(greet, folder, on_error="return")
        for worker, answer in answers.items():
            if isinstance(answer, FileNotFoundError):
                raise ClusterError(
                    f"{worker}: does not see {folder}; bars and store must lie on a file system "
                    "that all workers share, under the same path"
                )
            if answer != __version__:
                found = f"tfa-perf {answer}" if isinstance(answer, str) else repr(answer)
                raise ClusterError(
                    f"{worker}: answers with {found}; install tfa-perf {__version__} there"
                )

    def run(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        from distributed import as_completed

        futures = self._client.map(function, *zip(*calls, strict=True), pure=False)
        numbers = {future.key: number for number, future in enumerate(futures)}
        done = as_completed(futures, with_results=True, raise_errors=False, loop=self._client.loop)
        # Each is let go of once its result is here.
        del futures
        for future, result in done:
            if future.status == "error":
                result = result[1]
            elif future.status != "finished":
                raise ClusterError(
                    f"{self._where}: was lost ({future.status}); run the same command again, which "
                    "goes on from there"
                )
            yield numbers[future.key], result

    def close(self, *, at_once: bool) -> None:
        if at_once:
            _kill(self._cluster)
            with suppress(Exception):
                self._client.close(timeout=1)
        else:
            self._client.close()
            if self._cluster is not None:
                self._cluster.close()


def _local_cluster(workers: int) -> LocalCluster:
    """A cluster of this machine whose workers are on their way."""
    from distributed import LocalCluster

    threads = max(1, cores() // workers)
    with _deaf_to_interrupts():
        cluster = LocalCluster(
            n_workers=0,
            threads_per_worker=threads,
            # What a partition needs is not known; Dask would kill a worker at its share.
            memory_limit=0,
            # Any free port: another cluster may have the usual one.
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            env={"POLARS_MAX_THREADS": str(threads)},
        )
    cluster.scale(workers)
    return cluster


def _kill(cluster: LocalCluster | None) -> None:
    """End a cluster's processes, whatever they do; those that only start end with this one."""
    if cluster is None:
        return
    # Connections break and workers that only start have no orderly end: nothing to tell.
    for handler in logging.getLogger("distributed").handlers:
        handler.addFilter(lambda record: False)
    # Or Dask tries again at the exit.
    cluster.shutdown_on_close = False
    with suppress(Exception):
        for nanny in cluster.workers.values():
            nanny.auto_restart = False
            if nanny.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(nanny.pid, signal.SIGKILL)
        cluster.close(timeout=1)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started inside, and later by threads started inside, have no Ctrl-C.

    A terminal sends it to them too, but it is this process that ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Whichever thread starts it lets Ctrl-C through from then on.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def pick_workers(
    scheduler: str | None, workers: int | None, partitions: int
) -> Callable[[], Workers]:
    """What makes the workers, when there is something for them to do.

    Raises UsageError where the arguments do not go together, or need the package that is missing.
    """
    if scheduler is not None and workers is not None:
        raise UsageError(
            f"workers: {workers} is for local processes; the cluster at {scheduler} has its own"
        )
    if workers is not None and workers < 1:
        raise UsageError(f"workers: a number from 1 is needed, got {workers}")
    count = min(cores() if workers is None else workers, max(1, partitions))
    if scheduler is None and count == 1:
        return Here
    try:
        import distributed  # noqa: F401
    except ModuleNotFoundError:
        if scheduler is None and workers is None:
            return Here
        raise UsageError(
            f"{'workers' if scheduler is None else 'scheduler'}: the package distributed is "
            "needed; pip install 'tfa-perf[cluster]', or leave the option out for one process"
        ) from None
    return lambda: OnDask(scheduler, count)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
