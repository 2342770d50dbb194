"""What an object store is: keys, whole objects, and a precondition that makes read-modify-write safe.

Keys are relative paths with `/`, as the layouts make them; a key's first part names its root (`market-data-tick`, …).
What else a key may be stands in `keys.py`; any other text is a LakeError.
Two stores fulfil this: the local disk and Google Cloud Storage. One suite of tests holds for both.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing tells of one object.

    Attributes:
        key: the object's key.
        size: its length in bytes.
        crc32c: the CRC-32C of its content where the store keeps one, else None; `ObjectStore.crc32c` always knows.
        identity: on a local disk which file it is and when it was written (device, inode, nanoseconds), else None. Two
            objects of one identity are one file, under whatever keys; what is published anew has another.
    """

    key: str
    size: int
    crc32c: int | None = None
    identity: tuple[int, ...] | None = field(default=None, compare=False)


class Pinned(Protocol):
    """An object opened for reading: always the same bytes, whatever is published meanwhile.

    Use it as a context manager; leaving it lets go of the object.
    """

    @property
    def info(self) -> ObjectInfo:
        """Key, size and (where the store keeps one) checksum of exactly this object."""
        ...

    @property
    def file(self) -> pa.NativeFile:
        """Random access to its bytes; not to be shared between threads."""
        ...

    def __enter__(self) -> "Pinned": ...

    def __exit__(self, *exc: object) -> None: ...


class _Unconditional:
    """The type of ALWAYS."""


ALWAYS: Final = _Unconditional()
"""For `expect`: publish whatever lies there now."""

Expect = Pinned | None | _Unconditional
"""What must lie under a key for a change to take place: a pinned object, nothing (None), or anything (ALWAYS)."""


class ObjectStore(Protocol):
    """A place for objects. Every method may be called from several threads.

    Whatever goes wrong is a LakeError that names the object, the reason and what to do; its cause is the first error.
    """

    @property
    def uri(self) -> str:
        """The store's address for people: a folder or `gs://…`."""
        ...

    def uri_of(self, key: str) -> str:
        """An object's full address: an absolute path or `gs://bucket/…`."""
        ...

    @property
    def transfers(self) -> int:
        """How many calls at once pay: one where a call keeps the machine busy, many where it waits for a network."""
        ...

    @property
    def bytes_written(self) -> int:
        """How many bytes of content this store has published so far; hard links and server-side copies are free."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects under a folder (`prefix` ends in `/`) or of exactly this key, in the order of their keys.

        The order is that of the whole keys as strings. Names that begin with a dot, temporary ones among them, are
        never listed. A prefix that does not exist lists nothing.
        """
        ...

    def open(self, key: str) -> Pinned:
        """Opens one object, held at what it is now.

        Where the store keeps no replaced objects (Google Cloud Storage), a later read of one that was replaced
        meanwhile raises ObjectChanged; it never gives the newer bytes.

        Raises:
            ObjectNotFound: nothing lies under the key.
        """
        ...

    def crc32c(self, info: ObjectInfo) -> int:
        """The CRC-32C of a listed object's content; free where listings carry it, one read where not."""
        ...

    def known_crc32c(self, info: ObjectInfo) -> int | None:
        """The CRC-32C of a listed object's content as far as it is known without reading it, else None."""
        ...

    def stage(self) -> AbstractContextManager[Path]:
        """A path for a temporary file, on which `put` is cheap; the file is removed when the context is left."""
        ...

    def put(self, staged: Path, keys: Sequence[str], *, expect: Expect = ALWAYS, crc32c: int | None = None) -> None:
        """Publishes a staged file under each key: whole or not at all, for each key.

        The file is sent once; further keys get it by a hard link or a server-side copy. It must not be written to
        afterwards. With `expect` other than ALWAYS there is one key, and a pinned object must still be open. A caller
        that knows the file's CRC-32C tells it, and saves a reading.

        Raises:
            ObjectChanged: `expect` no longer holds; nothing was changed.
        """
        ...

    def delete(self, key: str, *, expect: Expect = ALWAYS) -> None:
        """Removes an object; one that is not there is no error, unless a pinned one was expected.

        Raises:
            ObjectChanged: `expect` no longer holds; nothing was changed.
        """
        ...

    def sweep(self) -> int:
        """Removes what killed runs left behind (temporary names that nobody holds); returns how many."""
        ...
