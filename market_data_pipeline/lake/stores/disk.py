"""The few things that the local store does to files and folders: durable, locked, and explained when they fail.

No keys here: paths only.
"""

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from market_data_pipeline.model.errors import LakeError

ORPHAN_SECONDS = 60.0
"""A temporary file younger than this is never swept: its maker may not have locked it yet."""

LINK_REFUSED = frozenset({errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What a file system answers that makes no (further) hard link; a copy is made then."""

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_ADVICE = {
    errno.ENOSPC: "free some space and run again",
    errno.EDQUOT: "free some of the quota and run again",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "give this user the right to it, or choose another folder",
    errno.EPERM: "give this user the right to it, or choose another folder",
    errno.ENOTDIR: "a file lies where a folder is needed: move it away",
    errno.EEXIST: "a file lies where a folder is needed: move it away",
    errno.EISDIR: "a folder lies where the object should: move it away",
    errno.EXDEV: "keep the whole lake on one file system",
}
# Not every file system can bring a folder's names onto the disk, and not every folder may be opened.
_NO_FOLDER_SYNC = frozenset({errno.ENOENT, errno.EACCES, errno.EINVAL, errno.ENOTSUP})

Identity = tuple[int, int]
"""Device and inode."""


def identity(found: os.stat_result) -> Identity:
    """Which file was found."""
    return found.st_dev, found.st_ino


def identity_at(path: Path) -> Identity | None:
    """Which file lies here; None for none: a folder or a link is no object."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return identity(found) if stat.S_ISREG(found.st_mode) else None


def linked_folder(root: Path, key: str) -> str | None:
    """The first folder on the way to a key that is a link; None for none. A root of the lake may be one."""
    at = key.find("/", key.find("/") + 1)
    while at >= 0:
        folder = f"{root}/{key[:at]}"
        try:
            if stat.S_ISLNK(os.lstat(folder).st_mode):
                return folder
        except (FileNotFoundError, NotADirectoryError):
            return None
        at = key.find("/", at + 1)
    return None


def seal(path: Path) -> int:
    """Brings a file onto the disk and makes it read-only; its size."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
        os.fchmod(handle, 0o444)
        return os.fstat(handle).st_size
    finally:
        os.close(handle)


def make_folders(folder: Path) -> None:
    """Makes a folder and those above it, durably; a concurrent removal may leave it unmade."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        try:
            made.mkdir(exist_ok=True)
            sync_folder(made.parent)
        except FileNotFoundError:  # its parent was empty, and a delete removed it: the caller tries again
            return
        except FileExistsError:
            if os.path.lexists(made) and not made.is_dir():  # a file; of a folder that just went, likewise
                raise
            return


def sync_folder(folder: Path) -> None:
    """Brings a folder's names onto the disk; one that is gone meanwhile has none."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def locked_file(path: Path, flags: int, mode: int = 0o666) -> int:
    """Opens a file and waits until no other handle has it locked; closing the handle lets go of it."""
    handle = os.open(path, flags | os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except BaseException:
        os.close(handle)
        raise
    return handle


def copy_into(source: Path, handle: int) -> None:
    """Copies a file into an open one, brings it onto the disk and makes it read-only."""
    with source.open("rb") as original, open(handle, "wb", closefd=False) as copy:
        shutil.copyfileobj(original, copy, 1 << 20)
    os.fsync(handle)
    os.fchmod(handle, 0o444)


def discard(path: Path) -> None:
    """Removes a temporary file, if it is there; where that is refused, sweeping removes it once it can be."""
    with suppress(OSError):
        path.unlink()


def sweep_orphans(files: Iterable[Path]) -> int:
    """Removes temporary files that are old enough and that nobody has locked; returns how many."""
    removed = 0
    for path in files:
        with suppress(FileNotFoundError, PermissionError):  # gone meanwhile, or another user's
            # Linking changes ctime, so that a fresh link to an old file counts as young.
            if time.time() - path.lstat().st_ctime >= ORPHAN_SECONDS and unlink_unlocked(path):
                removed += 1
    return removed


def unlink_unlocked(path: Path) -> bool:
    """Removes a file unless somebody has locked it; true if it is gone."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def lake_error(what: str, error: OSError) -> LakeError:
    """An error that says what was being done, why it failed and what to do."""
    advice = _ADVICE.get(error.errno or 0)
    reason = error.strerror or str(error)
    return LakeError(f"{what}: {reason}; {advice}" if advice else f"{what}: {reason}")


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns the operating system's errors into one that says what was being done."""
    try:
        yield
    except LakeError:
        raise
    except OSError as error:
        raise lake_error(what, error) from error


@contextmanager
def explained_when_full(path: Path) -> Iterator[None]:
    """Turns only the error of a full disk into one that says so, for a body that may raise others of its own."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL and not isinstance(error, LakeError):
            raise lake_error(f"{path} cannot be written", error) from error
        raise
