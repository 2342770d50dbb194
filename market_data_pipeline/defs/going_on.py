"""Which runs go on, and which only seem to: one that was killed cannot say so any more, and would go on for good.

A run that we start ourselves keeps a file of its name locked in the instance's folder. The lock goes with the process.
Where that cannot be, a run is made all the same; it then goes on until it has ended or is ended by hand.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from socket import gethostname
from uuid import uuid4

import dagster as dg

_FOLDER = ".runs"
_START = Path("/proc/sys/kernel/random/boot_id")
_LONGEST = 4096
_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_GOING_ON = dg.RunsFilter(statuses=[status for status in dg.DagsterRunStatus if status not in _ENDED])
_SHOWN = 5


@contextmanager
def marked_run(instance: dg.DagsterInstance) -> Iterator[str]:
    """A new run's id, marked as alive until the context is left or the process dies; unmarked where that cannot be."""
    run_id = str(uuid4())
    with ExitStack() as mark:
        with suppress(OSError):  # a folder that is not ours, or a file system without locks
            _mark(_folder(instance) / run_id, mark)
        yield run_id


def _mark(path: Path, held: ExitStack) -> None:
    """A file that says which machine this is, locked until it is let go of, and then gone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}")
    handle = os.open(hidden, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    held.callback(os.close, handle)
    held.callback(_remove, hidden)
    os.write(handle, "\n".join(_machine()).encode())
    fcntl.flock(handle, fcntl.LOCK_EX)
    hidden.rename(path)  # nobody may find it before it is locked
    held.callback(_remove, path)


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """Reports as failed what was started by a process of this machine that has died since."""
    try:
        paths = sorted(_folder(instance).iterdir())
    except OSError:
        return
    for path in paths:
        if not path.name.startswith(".") and _nobody_holds(path):
            run = instance.get_run_by_id(path.name)
            if run is not None and not run.is_finished:
                instance.report_run_failed(run, "its process was killed; what it had not made yet can be run again")
            _remove(path)


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
    return Path(instance.root_directory) / _FOLDER


def _nobody_holds(path: Path) -> bool:
    """Whether the process is known to have died; that of another machine may live, and one that is not ours to see."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # the run has just ended, or it is not ours to see
        return False
    try:
        if _machine().isdisjoint(os.read(handle, _LONGEST).decode(errors="replace").splitlines()):
            return False
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # network drives give no other to one who only reads
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _machine() -> set[str]:
    """By what this machine is known: its name, which a container may change, and its start, where that can be told."""
    with suppress(OSError):
        return {gethostname(), _START.read_text().strip()}
    return {gethostname()}


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
