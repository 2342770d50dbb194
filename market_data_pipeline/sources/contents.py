"""What stands for the content of a source's file, so that it need not be read again."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

_Stamp = tuple[int, ...]


def content_of(path: Path, read_as: str) -> Callable[[object], str | None]:
    """Tells what some rows are made from that are read from one file alone (see `DayRows.made_from`).

    The file is read once; at the next look only where it may have changed since.

    Args:
        path: the file.
        read_as: what shapes the rows beside the content, in words.
    """
    known: dict[_Stamp, str] = {}

    def tell(_: object) -> str | None:
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                stamp = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
                if stamp not in known:
                    digest = hashlib.file_digest(file, "sha256")  # by the processor, twice as fast as others
                    known[stamp] = f"{read_as}\n{digest.hexdigest()}"
        except OSError:  # whoever reads the rows says so
            return None
        return known[stamp]

    return tell
