"""One process of a fit: alone in the job's own process, or `python -m slimline.models.rank`.

The second is started by `slimline.models.launch`, with torchrun's environment. The first rank alone
writes: state, checkpoint, MLflow, progress. What ends a rank is left to its launcher to tell.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Never

from slimline.contract import Killed, SlimlineError, open_store
from slimline.contract.job import Checkpoint
from slimline.contract.log import setup_logging
from slimline.models.loop import Loop
from slimline.models.stop import deferred_sigterm
from slimline.models.task_file import read_task
from slimline.models.threads import threads_of_each
from slimline.models.tracking import Tracker, tracked

if TYPE_CHECKING:
    from types import FrameType

    from lightning_fabric import Fabric

    from slimline.models.task import Task

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_BUG = 1


def run_rank(task: Task, saved: Checkpoint, processes: int) -> None:
    """Do the steps that are left, this process's share of each.

    Args:
        task: what is fitted.
        saved: the job's checkpoint, restored.
        processes: how many fit together.
    """
    import torch

    torch.set_num_threads(threads_of_each(processes))
    _keep_freed_memory()
    fabric = make_fabric(task, processes)
    fabric.launch()
    params = task.settings.model_dump() | {"what": task.what, "name": task.info.name}
    params["factory"] = task.info.factory.call if task.info.factory else ""
    title = f"{task.what} {task.info.stage}"
    told = (
        tracked(task.info.name, saved.job, title, params)
        if fabric.is_global_zero
        else nullcontext(Tracker())
    )
    with told as tracker, deferred_sigterm() as stop:
        Loop(fabric, task, saved, tracker).run(stop)


def make_fabric(task: Task, processes: int) -> Fabric:
    """What brings devices, precision and data parallelism to a fit."""
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return Fabric(
        accelerator="auto",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        precision="bf16-mixed" if task.settings.precision == "bf16" else "32-true",
    )


def _keep_freed_memory() -> None:
    """Let glibc reuse what a step freed; else each step asks the kernel for it again."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def main() -> None:
    """Be one rank of several.

    Arguments: directory of the task, directory of the checkpoint, store, job; process id and import
    path of the launcher.
    """
    place, saved, store, job, launcher, path = sys.argv[1:]
    _end_with(int(launcher))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the launcher's to tell
    signal.signal(signal.SIGTERM, _raise_killed)
    sys.path[:] = path.split(os.pathsep)
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, "lo")
    setup_logging("INFO" if os.environ["RANK"] == "0" else "WARNING")
    try:
        task, processes = read_task(Path(place)), int(os.environ["WORLD_SIZE"])
        run_rank(task, Checkpoint(Path(saved), open_store(store), job), processes)
    except Exception as error:  # noqa: BLE001 - the last frame: the launcher tells it
        _leave(error)


def _leave(error: Exception) -> Never:
    """End at once: what Python does at its end would wait for the other ranks."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, when another rank failed too
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    get_error_handler().record_exception(error)
    sys.stderr.flush()
    os._exit(error.exit_code if isinstance(error, SlimlineError) else _BUG)


def _end_with(launcher: int) -> None:
    """Be killed when the launcher ends, however it ends: a rank alone would wait for ever."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != launcher:
        os.kill(os.getpid(), signal.SIGKILL)


def _raise_killed(_signal: int, _frame: FrameType | None) -> None:
    msg = "told to stop (SIGTERM)"
    raise Killed(msg)


if __name__ == "__main__":
    main()
