"""The bytes of a vendor's file, unpacked as a stream of whole lines: gzip, zip or plain, checked to the last byte."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from isal import igzip
from isal.igzip_lib import IsalError

from market_data_pipeline.model.errors import SourceError

BLOCK = 4 << 20
"""Unpacked bytes that are read at once."""
_LONGEST_LINE = 1 << 20
_LARGEST = 1 << 37
"""Unpacked bytes of the largest file that is believed (128 GiB; the largest day of a vendor is a tenth of it)."""
_ALWAYS_BELIEVED = 1 << 30
_DENSEST = 200
"""Unpacked bytes for each packed one in what is larger than a GiB (ticks pack to a tenth, zeros to a thousandth)."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How a zip's file may be packed: of these no more is unpacked at once than was asked for."""


@dataclass(frozen=True)
class Packed:
    """A vendor's file that does not lie on a disk of ours.

    Attributes:
        name: what messages call it, such as its address.
        suffix: `.gz` or `.zip`; anything else is plain text.
        open: gives its bytes, as they are packed; a zip must be one in which one may jump. Raises SourceError where
            they cannot be had, or are none at all. May be called again.
    """

    name: str
    suffix: str
    open: Callable[[], AbstractContextManager[IO[bytes]]]

    def __str__(self) -> str:
        return self.name


Origin = Path | Packed
"""Where a vendor's file is read from; in a message it is its name."""

_BROKEN = (
    *(OSError, EOFError, zlib.error, IsalError, zipfile.BadZipFile, RuntimeError, NotImplementedError),
    *(ValueError, OverflowError, struct.error),  # what zipfile says of some damaged lists of files
)


def line_blocks(origin: Origin) -> Generator[bytes, None, None]:
    """Streams a file's text in blocks of whole lines, each about 4 MiB; an empty text has no blocks.

    The last line always ends in a line end; empty lines at the very end are left out.

    Raises:
        SourceError: the file cannot be opened, is torn or damaged, or is no text of lines. What came before it was
            found has been given by then.
    """
    try:
        with _opened(origin) as (read, packed):
            yield from _whole_lines(origin, read, packed)
    except _BROKEN as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise SourceError(f"{origin}: cannot be opened: {error.strerror}") from error
        raise SourceError(f"{origin}: torn or damaged ({error}); fetch it again") from error


def first_line(origin: Origin) -> str | None:
    """The first line of a file, unpacking no more than needed; None where the text is empty.

    Raises:
        SourceError: as `line_blocks`.
    """
    try:
        with _opened(origin) as (read, _):
            start = read(1 << 16)
    except _BROKEN as error:
        raise SourceError(f"{origin}: torn or damaged ({error}); fetch it again") from error
    return start.split(b"\n", 1)[0].decode("utf-8-sig", "replace").rstrip("\r") if start else None


def _whole_lines(origin: Origin, read: Callable[[int], bytes], packed: Callable[[], int]) -> Iterator[bytes]:
    held = rest = b""
    total = 0
    while chunk := read(BLOCK):
        total += len(chunk)
        if total > _LARGEST:
            raise SourceError(f"{origin}: unpacks to more than {_LARGEST >> 30} GiB, which no day of ticks does")
        if total > _ALWAYS_BELIEVED and total > _DENSEST * max(packed(), 1):
            raise SourceError(f"{origin}: unpacks to more than {_DENSEST} times its size, which no day of ticks does")
        end = chunk.rfind(b"\n") + 1
        if not end:
            rest += chunk
        else:
            # one block is held back, so that empty lines can be taken off the end of the last one
            if held:
                yield held
            held, rest = rest + chunk[:end], chunk[end:]
        if len(rest) > _LONGEST_LINE:
            raise SourceError(f"{origin}: a line is longer than {_LONGEST_LINE >> 20} MiB: this is no CSV")
    last = (held + rest).rstrip(b"\r\n")
    if last:
        yield last + b"\n"


@contextmanager
def _opened(origin: Origin) -> Iterator[tuple[Callable[[int], bytes], Callable[[], int]]]:
    """What reads the unpacked bytes, and what tells how many packed ones there are, or were needed so far."""
    if isinstance(origin, Packed):
        with origin.open() as packed, _unpacked(origin, origin.suffix, packed) as read:
            yield read, packed.tell
        return
    status = origin.stat()
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{origin}: is no regular file")
    if status.st_size == 0:
        raise SourceError(
            f"{origin}: the file is torn: it has 0 bytes (an empty day is an empty text, packed); fetch it again"
        )
    with origin.open("rb") as packed, _unpacked(origin, origin.suffix.lower(), packed) as read:
        yield read, lambda: status.st_size


@contextmanager
def _unpacked(origin: Origin, suffix: str, packed: IO[bytes]) -> Iterator[Callable[[int], bytes]]:
    match suffix:
        case ".gz":
            # ISA-L unpacks in a third of zlib's time; it checks lengths and checksums of all members, without the GIL
            with igzip.open(packed) as stream:
                yield stream.read
        case ".zip":
            with zipfile.ZipFile(packed) as archive, archive.open(_only_member(origin, archive)) as member:
                yield member.read
        case _:
            yield packed.read


def _only_member(origin: Origin, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) != 1:
        raise SourceError(f"{origin}: the archive holds {len(members)} files, expected exactly one .csv")
    member = members[0]
    if not member.filename.lower().endswith(".csv"):
        raise SourceError(f"{origin}: the archive holds {member.filename[:80]!r}, expected a .csv")
    if member.compress_type not in _METHODS:
        raise SourceError(f"{origin}: {member.filename[:80]!r} is packed by method {member.compress_type}, not deflate")
    if member.flag_bits & 0x1:
        raise SourceError(f"{origin}: {member.filename[:80]!r} is encrypted; unpack it first")
    return member
