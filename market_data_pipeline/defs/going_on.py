"""Which runs go on, and which only seem to: one that was killed cannot say so any more, and would go on for good.

A run that we start ourselves keeps a file of its name locked in the instance's folder. The lock goes with the process.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import dagster as dg

_FOLDER = ".runs"
_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_GOING_ON = dg.RunsFilter(statuses=[status for status in dg.DagsterRunStatus if status not in _ENDED])
_SHOWN = 5


@contextmanager
def marked_run(instance: dg.DagsterInstance) -> Iterator[str]:
    """A new run's id, marked as alive until the context is left or the process dies."""
    run_id = str(uuid4())
    path = _folder(instance) / run_id
    hidden = path.with_name(f".{run_id}")
    handle = os.open(hidden, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        hidden.rename(path)  # nobody may find it before it is locked
        yield run_id
    finally:
        hidden.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        os.close(handle)


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """Reports as failed what was started by a process of this machine that has died since."""
    for path in sorted(_folder(instance).iterdir()):
        if not path.name.startswith(".") and _nobody_holds(path):
            run = instance.get_run_by_id(path.name)
            if run is not None and not run.is_finished:
                instance.report_run_failed(run, "its process was killed; what it had not made yet can be run again")
            path.unlink(missing_ok=True)


def said_of_runs(instance: dg.DagsterInstance) -> str | None:
    """Which runs go on, in words; None for none."""
    count = instance.get_runs_count(_GOING_ON)
    if not count:
        return None
    some = ", ".join(instance.get_run_ids(_GOING_ON, limit=_SHOWN))
    return (
        f"{count} runs go on ({some}{', …' if count > _SHOWN else ''}); what they change is looked at when they have "
        "ended. One whose process was killed goes on until you end it: Terminate, with force, on its page in the UI"
    )


def _folder(instance: dg.DagsterInstance) -> Path:
    folder = Path(instance.root_directory) / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _nobody_holds(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # the run has just ended
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
