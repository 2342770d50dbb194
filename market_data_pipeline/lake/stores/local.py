"""The local disk as an object store: a folder, whose files are replaced whole and linked, never written to.

Under `<root>/.lake` lie temporary files and lock files; names that begin with a dot are outside every listing.
Everything must lie on one file system, for a file is published by renaming it. Symbolic links are not followed.
"""

import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from uuid import uuid4

import pyarrow as pa

from market_data_pipeline.lake.stores.content import ByteCount, crc32c_of
from market_data_pipeline.lake.stores.contract import ALWAYS, Expect, ObjectInfo
from market_data_pipeline.lake.stores.disk import (
    LINK_REFUSED,
    Identity,
    copy_into,
    discard,
    explained,
    explained_when_full,
    identity,
    identity_at,
    linked_folder,
    locked_file,
    make_folders,
    seal,
    sweep_orphans,
    sync_folder,
)
from market_data_pipeline.lake.stores.keys import check_change, checked_key, checked_prefix, is_key
from market_data_pipeline.model.errors import LakeError, ObjectChanged, ObjectNotFound

_STRIPES = 256
_ATTEMPTS = 100
_REMEMBERED = 65_536


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    # ctime stays out: it changes whenever one more layout links the file.
    return ObjectInfo(key, found.st_size, identity=(*identity(found), found.st_mtime_ns))


def _known_by(found: os.stat_result) -> tuple[int, ...]:
    return (*identity(found), found.st_mtime_ns, found.st_size)


class LocalPinned:
    """One open handle: the file stays what it is, even after its name was given to another."""

    def __init__(self, info: ObjectInfo, file: pa.OSFile) -> None:
        self.info = info
        self.file = file

    @property
    def identity(self) -> Identity:
        """Device and inode; while the handle is open no other file can get them. Raises LakeError once closed."""
        if self.file.closed:
            raise LakeError(f"{self.info.key}: was let go of, so it can no longer be expected; keep it open until then")
        return identity(os.fstat(self.file.fileno()))

    def __enter__(self) -> "LocalPinned":
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()


class LocalStore:
    """A folder on a local disk.

    Args:
        root: the lake's folder; made by the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._temp = self.root / ".lake" / "tmp"
        self._locks = self.root / ".lake" / "locks"
        self._written = ByteCount()
        self._checksums: dict[tuple[int, ...], int] = {}
        self._remembering = Lock()

    def __repr__(self) -> str:
        return f"LocalStore({str(self.root)!r})"

    @property
    def uri(self) -> str:
        """The folder's absolute path."""
        return str(self.root)

    @property
    def transfers(self) -> int:
        """One: what a disk does waits for nobody."""
        return 1

    @property
    def bytes_written(self) -> int:
        """Bytes published so far; a hard link counts nothing."""
        return self._written.total

    def uri_of(self, key: str) -> str:
        """The object's absolute path."""
        return self._address(checked_key(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The regular files under a folder, or the one of exactly this key, in the order of their keys."""
        return self._walk(self._unlinked(checked_prefix(prefix)))

    def open(self, key: str) -> LocalPinned:
        """Opens a file once; raises ObjectNotFound."""
        path = self._address(self._unlinked(checked_key(key)))
        with explained(f"{path} cannot be read"):
            try:
                if not stat.S_ISREG(os.lstat(path).st_mode):
                    raise ObjectNotFound(f"{path}: no object lies here")
                file = pa.OSFile(path, "rb")
            except (FileNotFoundError, NotADirectoryError):
                raise ObjectNotFound(f"{path}: no object lies here") from None
            return LocalPinned(_info(key, os.fstat(file.fileno())), file)

    def crc32c(self, info: ObjectInfo) -> int:
        """The CRC-32C of the file's content, read once for all its hard links."""
        path = self._path(info.key)
        with explained(f"{path} cannot be read"):
            try:
                file = path.open("rb", buffering=0)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise ObjectNotFound(f"{path}: no object lies here") from None
            with file:
                key = _known_by(os.fstat(file.fileno()))
                known = self._checksums.get(key)
                return self._remember(key, crc32c_of(file)) if known is None else known

    def known_crc32c(self, info: ObjectInfo) -> int | None:
        """The CRC-32C of a listed file that this store has read or published."""
        return None if info.identity is None else self._checksums.get((*info.identity, info.size))

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """A new empty file in the lake's own temporary folder, locked so that `sweep` leaves it alone."""
        path, handle = self._new_temp()
        try:
            with explained_when_full(path):
                yield path
        finally:
            try:
                discard(path)
            finally:
                os.close(handle)

    def put(self, staged: Path, keys: Sequence[str], *, expect: Expect = ALWAYS, crc32c: int | None = None) -> None:
        """Publishes the staged file under each key by a hard link; raises ObjectChanged."""
        check_change(keys, expect)
        with explained(f"{staged} cannot be published"):
            size = seal(staged)
            if crc32c is not None:
                self._remember(_known_by(staged.lstat()), crc32c)
        written = size
        for key in keys:
            with explained(f"{self._path(key)} cannot be written"):
                if self._publish(staged, key, expect):
                    written += size
            self._written.add(written)
            written = 0

    def delete(self, key: str, *, expect: Expect = ALWAYS) -> None:
        """Removes a file, and the folders that it leaves empty; raises ObjectChanged."""
        check_change([key], expect)
        path = self._path(key)
        with explained(f"{path} cannot be removed"):
            if (expect is None or expect is ALWAYS) and identity_at(path) is None:
                return  # nothing to lock: a folder that cannot be written to is fine
            with self._locked(key):
                self._require(path, expect)
                with suppress(FileNotFoundError):
                    path.unlink()
            sync_folder(path.parent)
            self._remove_empty(path.parent)

    def sweep(self) -> int:
        """Removes temporary files that nobody has locked."""
        with explained(f"{self._temp} cannot be swept"):
            return sweep_orphans(self._temp.iterdir() if self._temp.is_dir() else ())

    def _path(self, key: str) -> Path:
        return self.root / self._unlinked(checked_key(key))

    def _address(self, key: str) -> str:
        """The path as a text: every read asks for it, and putting a Path together takes as long as opening the file."""
        return f"{self.root}/{key}"

    def _unlinked(self, text: str) -> str:
        """The key or prefix; raises LakeError where a folder on its way is a link, which would lead out of the lake."""
        with explained(f"{self._address(text)} cannot be reached"):
            link = linked_folder(self.root, text)
        if link:
            raise LakeError(f"{link}: is a symbolic link, which is not followed here; put the folder itself there")
        return text

    def _remember(self, key: tuple[int, ...], checksum: int) -> int:
        with self._remembering:
            if len(self._checksums) >= _REMEMBERED:
                del self._checksums[next(iter(self._checksums))]
            self._checksums[key] = checksum
        return checksum

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        # Names still to visit, the next one last. A folder's name carries its `/`, so sorting the names of one folder
        # sorts the whole keys too: `c-x/…` stands before `c/…`, which stands before `cc/…`.
        pending = [prefix]
        with explained(f"{self.root / prefix} cannot be listed"):
            while pending:
                name = pending.pop()
                if name.endswith("/"):
                    pending += sorted(self._names(name), reverse=True)
                    continue
                with suppress(FileNotFoundError, NotADirectoryError):
                    found = os.lstat(f"{self.root}/{name}")
                    if stat.S_ISREG(found.st_mode):
                        yield _info(name, found)

    def _names(self, folder: str) -> Iterator[str]:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(f"{self.root}/{folder}") as entries:
            for entry in entries:
                if not is_key(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield f"{folder}{entry.name}/"
                elif entry.is_file(follow_symlinks=False):
                    yield f"{folder}{entry.name}"

    def _new_temp(self) -> tuple[Path, int]:
        path = self._temp / uuid4().hex
        with explained(f"{path} cannot be written"):
            self._temp.mkdir(parents=True, exist_ok=True)
            return path, locked_file(path, os.O_EXCL)

    def _publish(self, staged: Path, key: str, expect: Expect) -> bool:
        """Puts the staged file under the key; true if the bytes had to be copied."""
        target = self._path(key)
        temp, copied = self._second_name(staged)
        try:
            for attempt in range(_ATTEMPTS):
                make_folders(target.parent)
                try:
                    with self._locked(key):
                        self._require(target, expect)
                        temp.replace(target)
                    sync_folder(target.parent)
                    break
                except FileNotFoundError:  # a delete has just removed the empty folder: make it again
                    if attempt == _ATTEMPTS - 1 or not temp.exists():
                        raise
        finally:
            # Renaming a link onto its own inode does nothing and leaves the temporary name: it is always removed.
            discard(temp)
        return copied

    def _second_name(self, staged: Path) -> tuple[Path, bool]:
        """A temporary name for the staged file, which renaming uses up; true if it is a copy."""
        self._temp.mkdir(parents=True, exist_ok=True)
        path = self._temp / uuid4().hex
        try:
            os.link(staged, path)
        except OSError as error:
            if error.errno not in LINK_REFUSED:
                raise
        else:
            return path, False
        path, handle = self._new_temp()
        try:
            copy_into(staged, handle)
        except BaseException:
            discard(path)
            raise
        finally:
            os.close(handle)
        return path, True

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Keeps every other change of this key, in any thread or process, waiting."""
        self._locks.mkdir(parents=True, exist_ok=True)
        path = self._locks / f"{zlib.crc32(key.encode()) % _STRIPES:02x}.lock"
        handle = locked_file(path, 0)
        try:
            yield
        finally:
            os.close(handle)

    def _require(self, path: Path, expect: Expect) -> None:
        """Compares what lies under a locked key with what was expected; raises ObjectChanged."""
        if expect is ALWAYS:
            return
        found = identity_at(path)
        if expect is None:
            if found is not None:
                raise ObjectChanged(f"{path}: nothing was expected here, but somebody has published an object")
        elif not isinstance(expect, LocalPinned):
            raise LakeError(f"{path}: what is expected here was opened by another store: {expect!r}")
        elif found != expect.identity:
            what = "replaced" if found else "removed"
            raise ObjectChanged(f"{path}: was {what} since it was read; read it again")

    def _remove_empty(self, folder: Path) -> None:
        """Removes empty folders upwards; the root folders (`market-data-tick`, …) stay."""
        while folder.parent != self.root:
            try:
                folder.rmdir()
            except OSError:  # not empty, or somebody was faster: both are fine
                return
            folder = folder.parent
