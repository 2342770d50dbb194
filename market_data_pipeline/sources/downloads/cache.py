"""Files of the network kept on disk: by address, in bounded space, safe among processes, whole or not there.

An entry is a body and a small note beside it that names it (`{key}.json`). Only renaming the note makes a body count,
so a process may be killed anywhere; what no note names is swept.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO
from uuid import uuid4

from filelock import FileLock, Timeout

from market_data_pipeline.sources.downloads.tries import NotFetched

log = logging.getLogger(__name__)

_BODY, _NOTE, _PART = ".body", ".json", ".part"


@dataclass(frozen=True)
class Note:
    """What is known of a kept file.

    Attributes:
        url: whose it is.
        body: the name of its file in the cache.
        size: in bytes.
        sha256: of its bytes, in hexadecimal.
        etag: the vendor's mark of its version, or empty.
        modified: the vendor's Last-Modified, or empty.
    """

    url: str
    body: str
    size: int
    sha256: str
    etag: str
    modified: str


class Cache:
    """The kept files. May be used from any thread and from several processes at once.

    A body is handed out as an open handle, so it may go from the folder while it is read.

    Attributes:
        folder: where they lie; nothing else should.
        limit: bytes that may be kept; those used longest ago go first.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._swept = False

    @contextmanager
    def entry(self, url: str) -> Iterator["Entry"]:
        """The place of one address, for this thread alone among all threads and processes.

        Raises:
            NotFetched: the folder cannot be used.
        """
        key = sha256(url.encode()).hexdigest()[:32]
        try:
            self._prepare()
            with self._lock(key):
                entry = Entry(self.folder, key, url)
                yield entry
            if entry.grown:
                self._evict()
        except OSError as error:
            reason = error.strerror or str(error)
            raise NotFetched(
                f"MARKET_DATA_CACHE={self.folder}: cannot be used: {reason}; make room, name another folder, or switch "
                "the cache off with MARKET_DATA_CACHE_GB=0"
            ) from error

    def forget(self, url: str) -> None:
        """Takes an address's file out, so that it is fetched anew."""
        with self.entry(url) as entry:
            entry.remove()

    def _prepare(self) -> None:
        if not self._swept:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            self._swept = True

    def _lock(self, key: str, seconds: float = -1) -> FileLock:
        # few lock files, which stay: one that was removed could be locked twice
        return FileLock(self.folder / f"{key[:2]}.lock", timeout=seconds, thread_local=False)

    def _sweep(self) -> None:
        """Removes what killed processes left: bodies that no note names, and half ones that nobody writes."""
        for path in self.folder.iterdir():
            if path.suffix in (_PART, _BODY):
                with ExitStack() as held:
                    key = path.name.partition(".")[0]
                    try:
                        held.enter_context(self._lock(key, 0))
                    except Timeout:
                        continue
                    note = Entry(self.folder, key, "").note()
                    if note is None or note.body != path.name:
                        log.info("%s: left by a process that was killed; removed", path)
                        path.unlink(missing_ok=True)

    def _evict(self) -> None:
        bodies = []
        for path in self.folder.glob(f"*{_BODY}"):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            bodies.append((found.st_mtime_ns, path.name, found.st_size))
        total = sum(size for _, _, size in bodies)
        for _, name, size in sorted(bodies):
            if total <= self.limit:
                return
            key = name.partition(".")[0]
            try:
                with self._lock(key, 0):
                    entry = Entry(self.folder, key, "")
                    note = entry.note()
                    if note is not None and note.body == name:
                        entry.remove()
                    (self.folder / name).unlink(missing_ok=True)
            except Timeout:
                continue
            total -= size


class Entry:
    """The place of one address in the cache; held by its lock.

    Attributes:
        grown: a file was kept, so that another may have to go.
    """

    def __init__(self, folder: Path, key: str, url: str) -> None:
        self._folder, self._key, self._url = folder, key, url
        self.grown = False

    def note(self) -> Note | None:
        """What is kept; None for nothing that could be used."""
        try:
            note = Note(**json.loads((self._folder / f"{self._key}{_NOTE}").read_bytes()))
            whole = (self._folder / note.body).stat().st_size == note.size
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return note if whole and self._url in ("", note.url) else None

    def open(self, note: Note) -> IO[bytes]:
        """The kept file, which counts as used now."""
        path = self._folder / note.body
        os.utime(path)
        return path.open("rb")

    @contextmanager
    def part(self) -> Iterator[IO[bytes]]:
        """A file to write to; gone afterwards unless it was kept."""
        path = self._folder / f"{self._key}.{uuid4().hex}{_PART}"
        try:
            with path.open("w+b") as file:
                yield file
        finally:
            path.unlink(missing_ok=True)

    def keep(self, part: IO[bytes], *, digest: str, etag: str, modified: str) -> Note:
        """Makes a whole file, just written, the kept one; the one before it goes."""
        part.flush()
        os.fsync(part.fileno())
        before = self.note()
        written = Path(part.name)
        body = written.with_suffix(_BODY)
        note = Note(self._url, body.name, body_size(part), digest, etag, modified)
        written.rename(body)
        self._write(note)
        self.grown = True
        if before is not None:
            (self._folder / before.body).unlink(missing_ok=True)
        return note

    def remove(self) -> None:
        """Takes the kept file out."""
        note = self.note()
        (self._folder / f"{self._key}{_NOTE}").unlink(missing_ok=True)
        if note is not None:
            (self._folder / note.body).unlink(missing_ok=True)

    def _write(self, note: Note) -> None:
        with self.part() as file:
            file.write(json.dumps(asdict(note)).encode())
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).rename(self._folder / f"{self._key}{_NOTE}")
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def body_size(file: IO[bytes]) -> int:
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size
