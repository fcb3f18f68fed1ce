"""Start the ranks of a fit on this machine, as torchrun does, and tell how they ended.

The job's process launches them with torch's elastic agent: one process for each device, rendezvous
on loopback at a port the system gives, gloo between CPUs and NCCL between GPUs. So `slimline run
train --devices 2` is all there is to do, in a container without network too.

SIGTERM is handed on: the ranks agree on a step, the first one saves, the job exits 143. When one
rank fails, all end, and the job fails as that rank did. Ranks never outlive the job's process.

What it does not do: start again ranks that failed (the job's retry does, from the checkpoint), and
go beyond one machine.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from slimline.contract import (
    BadData,
    BadParameters,
    Killed,
    SlimlineError,
    TryLater,
    get_logger,
)
from slimline.models import rank
from slimline.models.task_file import write_task
from slimline.models.threads import threads_of_each

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

    from slimline.contract.job import Checkpoint
    from slimline.models.task import Task

log = get_logger(__name__)
_TOLD = {e.exit_code: e for e in (BadParameters, BadData, TryLater, Killed)}
_AGENT = (
    "torch.distributed.elastic",
    "torch.distributed.elastic.agent.server.api",
    "torch.distributed.elastic.multiprocessing.errors",
    "torch.distributed.launcher.api",
)
"""Loggers that tell what we tell; each sets a level of its own."""
_HEAD_START = 5
"""Seconds by which a rank's death by a signal may be noticed after its peers failed for it."""


class RankKilled(SlimlineError):
    """SIGKILL ended a rank, most often for memory; the next try goes on from the checkpoint."""

    exit_code: ClassVar[int] = 137


def launch(task: Task, saved: Checkpoint, processes: int) -> None:
    """Run a task in several processes; the first of them leaves the state in `saved.path`.

    Raises:
        Killed: on SIGTERM, when the state has been kept.
        RankKilled: when a rank was killed.
        RuntimeError: with the rank's own traceback, when that failed with none of our errors.
        SlimlineError: what a rank raised.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    log.info("%s: %d processes, %d threads each", task.what, processes, threads_of_each(processes))
    with tempfile.TemporaryDirectory(prefix="ranks-", dir=saved.path.parent) as place, _signals():
        write_task(Path(place), task)
        own = (os.getpid(), os.pathsep.join(sys.path))
        arguments = (place, saved.path, saved.store.uri, saved.job, *own)
        started = elastic_launch(_config(Path(place), processes), sys.executable)
        try:
            started("-m", rank.__name__, *arguments)
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            msg = f"{task.what}: told to stop (SIGTERM)"
            raise Killed(msg) from None
        except ChildFailedError as error:
            raise _told(task, processes, error.failures) from None


def _config(place: Path, processes: int) -> LaunchConfig:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="fit",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        signals_to_handle="SIGTERM,SIGINT",
        logs_specs=DefaultLogsSpecs(log_dir=str(place)),
    )


@contextmanager
def _signals() -> Iterator[None]:
    """Put the signal handlers back that the agent replaces; leave the telling to us."""
    for name in _AGENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    main = threading.current_thread() is threading.main_thread()
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)} if main else {}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _told(task: Task, processes: int, failures: Mapping[int, ProcessFailure]) -> Exception:
    """What the rank that failed first says; the others fail because it is gone.

    One that says why in our words never fails for that, nor do we end it: it goes before.
    """
    ours = [rank for rank, failure in failures.items() if failure.exitcode in _TOLD]
    first = min(ours or failures, key=lambda r: _failed_at(failures[r]))
    failure, code = failures[first], failures[first].exitcode
    who = f"{task.what}: process {first + 1} of {processes}"
    if code == -signal.SIGKILL:
        return RankKilled(
            f"{who} was killed (SIGKILL), most often for memory: lower batch_size "
            f"({task.settings.batch_size}) or devices, or give the task more memory"
        )
    if code == -signal.SIGTERM:
        return Killed(f"{who} was told to stop (SIGTERM)")
    if code in _TOLD:
        return _TOLD[code](_words(failure)[0].partition(": ")[2])
    return RuntimeError(f"{who} failed: {_words(failure)[1]}")


def _failed_at(failure: ProcessFailure) -> float:
    if failure.exitcode < 0:
        return failure.timestamp - _HEAD_START
    file = Path(failure.error_file)
    return file.stat().st_mtime if file.is_file() else failure.timestamp


def _words(failure: ProcessFailure) -> tuple[str, str]:
    """The class and message of a rank's exception, and its traceback."""
    told: Any = failure.message  # a str by its annotation, our record by what is in the file
    if isinstance(told, str):
        return told, f"exit code {failure.exitcode}; {told}"
    return told["message"], told["extraInfo"]["py_callstack"]
