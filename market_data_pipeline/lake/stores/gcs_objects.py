"""Single objects of Google Cloud Storage: looked at, written and removed so that each change takes place exactly once.

Every write carries a mark of its own in the object's metadata: when an answer is lost after the write took place, the
mark tells that the object is ours. Errors are still Google's here.
"""

import base64
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from google.api_core.exceptions import NotFound, PreconditionFailed

from market_data_pipeline.lake.stores.content import crc32c_of
from market_data_pipeline.lake.stores.gcs_errors import Place, bucket_is_missing
from market_data_pipeline.lake.stores.waiting import wait_for_others
from market_data_pipeline.model.errors import ObjectChanged

log = logging.getLogger(__name__)

ATTEMPTS = 20
"""How often an object that is replaced again and again is tried."""

# The client sends more than this in a resumable session, which may be repeated safely: it is completed only once.
_ONE_REQUEST = 8 * 1024 * 1024
_CHUNK = 16 * 1024 * 1024
_TYPE = "application/octet-stream"
_MARK = "market-data-write"


@dataclass(frozen=True)
class Content:
    """A staged file on its way into the store."""

    path: Path
    size: int
    crc32c: str
    mark: str = field(default_factory=lambda: uuid4().hex)

    @classmethod
    def of(cls, path: Path, checksum: int | None = None) -> "Content":
        """Reads a file once for its checksum, if that is not known; raises OSError."""
        if checksum is None:
            with path.open("rb", buffering=0) as file:
                checksum = crc32c_of(file)
        return cls(path, path.stat().st_size, base64.b64encode(checksum.to_bytes(4, "big")).decode())


Write = Callable[[Place, Content, int | None], int]
"""Writes content to a place, if given only onto this generation (0: none); gives the new generation."""


class Objects:
    """The requests that concern one object.

    Args:
        client: a `google.cloud.storage.Client`.
        retry: when and how often to repeat what failed on the way.
    """

    def __init__(self, client: Any, retry: Any) -> None:
        self._client = client
        self._retry = retry

    def blob(self, place: Place, **options: Any) -> Any:
        """The client's object for a place; no request."""
        return self._client.bucket(place.bucket).blob(place.name, **options)

    def look(self, place: Place, generation: int | None = None) -> Any | None:
        """The object's metadata, now or at a generation; None if it is not there."""
        blob = self.blob(place, generation=generation)
        try:
            blob.reload(retry=self._retry)
        except NotFound as error:
            if bucket_is_missing(error):
                raise
            return None
        return blob

    def publish(self, place: Place, wanted: int | None, content: Content, write: Write) -> int:
        """Writes, and repeats it until it is certain that it took place; the new generation.

        Args:
            place: where to.
            wanted: the generation that must lie there, 0 for none, None for whatever there is: then the last writer
                wins. Its first attempt is unconditional; a repeated one goes only onto what was seen to lie there, so
                that one whose answer is late or lost is not written a second time.
            content: what is written.
            write: how: an upload or a copy.

        Raises:
            ObjectChanged: `wanted` does not hold.
        """
        again = False

        def attempt() -> int:
            nonlocal again
            match = wanted
            for number in range(ATTEMPTS):
                if wanted is None:
                    wait_for_others(number, ATTEMPTS, f"{place.uri} was replaced by another run", log)
                if again:
                    there = self.look(place)
                    if there is not None and (there.metadata or {}).get(_MARK) == content.mark:
                        return int(there.generation)
                    if wanted is None:
                        match = int(there.generation) if there is not None else 0
                    elif match is None:
                        raise ObjectChanged(f"{place.uri}: was changed since it was read; read it again")
                again = True
                try:
                    return write(place, content, match)
                except PreconditionFailed:
                    match = None  # look whether that is our own earlier attempt
            raise ObjectChanged(f"{place.uri}: is being replaced faster than it can be written; try again")

        return int(self._retry(attempt)())

    def upload(self, place: Place, content: Content, match: int | None) -> int:
        """Sends the content."""
        blob = self.blob(place, chunk_size=_CHUNK)
        blob.metadata = {_MARK: content.mark}
        blob.crc32c = content.crc32c  # the server compares it, and refuses other content
        blob.upload_from_filename(
            str(content.path),
            content_type=_TYPE,
            if_generation_match=match,
            checksum=None,
            retry=self._retry if content.size > _ONE_REQUEST else None,
        )
        return int(blob.generation)

    def copier(self, source: Place, generation: int) -> Write:
        """Copies a generation on the server, however many requests that takes; NotFound if it was replaced."""
        original = self.blob(source, generation=generation)
        token: str | None = None  # kept over a failure, so that a repeated attempt goes on where the last one stopped

        def copy(place: Place, content: Content, match: int | None) -> int:
            nonlocal token
            blob = self.blob(place)
            blob.metadata = {_MARK: content.mark}
            blob.content_type = _TYPE
            while True:
                token, _, _ = blob.rewrite(original, token=token, if_generation_match=match, retry=None)
                if token is None:
                    return int(blob.generation)

        return copy

    def remove(self, place: Place, generation: int) -> bool:
        """Removes an object at a generation; false if it is no longer that one."""
        lost = False

        def note(_: Exception) -> None:
            nonlocal lost
            lost = True

        def attempt() -> None:
            self.blob(place).delete(if_generation_match=generation, retry=None)

        try:
            self._retry(attempt, on_error=note)()
        except NotFound as error:
            if bucket_is_missing(error):
                raise
            return lost  # if an answer was lost, it was we who removed it
        except PreconditionFailed:
            return False
        return True
