"""The bytes of a vendor's file, unpacked as a stream of whole lines: gzip, zip or plain, checked to the last byte."""

import stat
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from market_data_pipeline.model.errors import SourceError

BLOCK = 4 << 20
"""Unpacked bytes that are read at once."""
_LONGEST_LINE = 1 << 20
_LARGEST = 1 << 37
"""Unpacked bytes of the largest file that is believed (128 GiB; the largest day of a vendor is a tenth of it)."""

_BROKEN = (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError)


def line_blocks(path: Path) -> Generator[bytes, None, None]:
    """Streams a file's text in blocks of whole lines, each about 4 MiB; an empty text has no blocks.

    The last line always ends in a line end; empty lines at the very end are left out.

    Raises:
        SourceError: the file cannot be opened, is torn or damaged, or is no text of lines. What came before it was
            found has been given by then.
    """
    try:
        with _opened(path) as read:
            yield from _whole_lines(path, read)
    except _BROKEN as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise SourceError(f"{path}: cannot be opened: {error.strerror}") from error
        raise SourceError(f"{path}: torn or damaged ({error}); fetch it again") from error


def first_line(path: Path) -> str | None:
    """The first line of a file, unpacking no more than needed; None where the text is empty.

    Raises:
        SourceError: as `line_blocks`.
    """
    try:
        with _opened(path) as read:
            start = read(1 << 16)
    except _BROKEN as error:
        raise SourceError(f"{path}: torn or damaged ({error}); fetch it again") from error
    return start.split(b"\n", 1)[0].decode("utf-8-sig", "replace").rstrip("\r") if start else None


def _whole_lines(path: Path, read: Callable[[int], bytes]) -> Iterator[bytes]:
    held = rest = b""
    total = 0
    while chunk := read(BLOCK):
        total += len(chunk)
        if total > _LARGEST:
            raise SourceError(f"{path}: unpacks to more than {_LARGEST >> 30} GiB, which no day of ticks does")
        end = chunk.rfind(b"\n") + 1
        if not end:
            rest += chunk
        else:
            # one block is held back, so that empty lines can be taken off the end of the last one
            if held:
                yield held
            held, rest = rest + chunk[:end], chunk[end:]
        if len(rest) > _LONGEST_LINE:
            raise SourceError(f"{path}: a line is longer than {_LONGEST_LINE >> 20} MiB: this is no CSV")
    last = (held + rest).rstrip(b"\r\n")
    if last:
        yield last + b"\n"


@contextmanager
def _opened(path: Path) -> Iterator[Callable[[int], bytes]]:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{path}: is no regular file")
    if status.st_size == 0:
        raise SourceError(
            f"{path}: the file is torn: it has 0 bytes (an empty day is an empty text, packed); fetch it again"
        )
    match path.suffix.lower():
        case ".gz":
            # Arrow's inflater checks lengths and checksums of all members, and runs without the GIL
            with pa.OSFile(str(path), "rb") as raw, pa.CompressedInputStream(raw, "gzip") as stream:
                yield stream.read
        case ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(_only_member(path, archive)) as member:
                yield member.read
        case _:
            with path.open("rb") as plain:
                yield plain.read


def _only_member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) != 1:
        raise SourceError(f"{path}: the archive holds {len(members)} files, expected exactly one .csv")
    member = members[0]
    if not member.filename.lower().endswith(".csv"):
        raise SourceError(f"{path}: the archive holds {member.filename[:80]!r}, expected a .csv")
    if member.flag_bits & 0x1:
        raise SourceError(f"{path}: {member.filename[:80]!r} is encrypted; unpack it first")
    return member
