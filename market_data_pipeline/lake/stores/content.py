"""What both stores know of content: its CRC-32C, and how much of it was written."""

from io import RawIOBase
from threading import Lock

import google_crc32c

_CHUNK = 1 << 20


def crc32c_of_bytes(data: bytes) -> int:
    """The CRC-32C of some bytes."""
    return int(google_crc32c.value(data))


def crc32c_of(file: RawIOBase) -> int:
    """The CRC-32C of the rest of an open file; raises OSError."""
    checksum = 0
    while chunk := file.read(_CHUNK):
        checksum = google_crc32c.extend(checksum, chunk)
    return int(checksum)


class ByteCount:
    """A sum of bytes to which several threads may add."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._total = 0

    def add(self, size: int) -> None:
        """Adds to the sum."""
        with self._lock:
            self._total += size

    @property
    def total(self) -> int:
        """The sum so far."""
        return self._total
