"""Reading one generation of an object of Google Cloud Storage as a file."""

import io
from typing import Any, Final

import pyarrow as pa
from google.api_core.exceptions import NotFound

from market_data_pipeline.lake.stores.contract import ObjectInfo
from market_data_pipeline.lake.stores.gcs_errors import Place, explained
from market_data_pipeline.model.errors import LakeError, ObjectChanged

RAW: Final = {"raw_download": True, "checksum": None, "single_shot_download": True}
"""How ranges are downloaded: as stored, unchecked (only the whole has a checksum), not in chunks of 8 KiB."""


class PinnedBytes(io.RawIOBase):
    """The bytes of one generation: the tail is at hand, the rest is fetched by ranges.

    Args:
        client: a `google.cloud.storage.Client`.
        place: bucket and name.
        info: key, size and checksum of the generation.
        generation: which one.
        tail: its last bytes, already read.
        retry: when to repeat what failed on the way.
    """

    def __init__(self, client: Any, place: Place, info: ObjectInfo, generation: int, tail: bytes, retry: Any) -> None:
        super().__init__()
        self._client = client
        self._place = place
        self._size = info.size
        self._generation = generation
        self._tail = tail
        self._retry = retry
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position of the next read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the position; costs nothing."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """All bytes asked for, fewer only at the end; raises ObjectChanged where the object was replaced."""
        start = min(self._at, self._size)
        end = self._size if size is None or size < 0 else min(start + size, self._size)
        self._at = max(self._at, end)
        tail_start = self._size - len(self._tail)
        head = self._fetch(start, min(end, tail_start)) if start < min(end, tail_start) else b""
        if end <= tail_start:
            return head
        rest = self._tail[max(start - tail_start, 0) : end - tail_start]
        return head + rest if head else rest

    def readinto(self, buffer: Any, /) -> int:
        """Fills the buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _fetch(self, start: int, end: int) -> bytes:
        # A new blob each time: a download overwrites what its blob knows of the generation.
        blob = self._client.bucket(self._place.bucket).blob(self._place.name, generation=self._generation)
        with explained(self._place, "read"):
            try:
                data = blob.download_as_bytes(start=start, end=end - 1, retry=self._retry, **RAW)
            except NotFound as error:
                raise ObjectChanged(
                    f"{self._place.uri}: generation {self._generation} was replaced or removed while it was read; "
                    "open it again"
                ) from error
        if len(data) != end - start:
            raise LakeError(f"{self._place.uri}: {end - start} bytes from {start} asked for, {len(data)} came")
        return bytes(data)


class GcsPinned:
    """An object at one generation."""

    def __init__(self, info: ObjectInfo, generation: int, content: PinnedBytes) -> None:
        self.info = info
        self.generation = generation
        self.file = pa.PythonFile(content, mode="r")

    def __enter__(self) -> "GcsPinned":
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()
