"""Google Cloud Storage as an object store: reads pinned at a generation, changes conditional on one.

Only this module and its `gcs_…` neighbours import Google's client, and only an address `gs://…` imports them.
"""

import base64
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from google.api_core.exceptions import NotFound, RequestRangeNotSatisfiable
from google.cloud.storage.retry import DEFAULT_RETRY

from market_data_pipeline.lake.stores.content import ByteCount, crc32c_of_bytes
from market_data_pipeline.lake.stores.contract import ALWAYS, Expect, ObjectInfo
from market_data_pipeline.lake.stores.disk import discard, explained_when_full, lake_error, locked_file, sweep_orphans
from market_data_pipeline.lake.stores.gcs_client import client_from_environment, without_background_requests
from market_data_pipeline.lake.stores.gcs_errors import Place, bucket_is_missing, explained
from market_data_pipeline.lake.stores.gcs_objects import ATTEMPTS, Content, Objects
from market_data_pipeline.lake.stores.gcs_reading import RAW, GcsPinned, PinnedBytes
from market_data_pipeline.lake.stores.keys import check_change, checked_key, checked_prefix, is_key
from market_data_pipeline.lake.stores.waiting import wait_for_others
from market_data_pipeline.model.errors import LakeError, ObjectChanged, ObjectNotFound

log = logging.getLogger(__name__)
__all__ = ["TAIL_BYTES", "GcsPinned", "GcsStore", "client_from_environment"]

TAIL_BYTES = 256 * 1024
"""What `open` reads at once: the whole of a small object, the footer of a large one."""

TRANSFERS = 16
"""Requests at once. Each upload holds up to 16 MiB, so there are not many more than pay."""

_REMEMBERED = 65_536
_STAGED = "market-data-staged-"
_FIELDS = "items(name,size,crc32c,generation),nextPageToken"


class GcsStore:
    """Buckets of Google Cloud Storage.

    Args:
        client: a `google.cloud.storage.Client`.
        places: for each root (a key's first part) its bucket, and what stands before the rest of the key there.
        uri: the store's address for people.
        retry: a `google.api_core.retry.Retry`: when and how often to repeat what failed on the way; Google's own
            policy if None.
    """

    def __init__(
        self, client: Any, places: Mapping[str, tuple[str, str]], *, uri: str = "gs://", retry: Any | None = None
    ) -> None:
        without_background_requests()
        self._client = client
        self.places = dict(places)
        self._uri = uri
        self._retry = retry or DEFAULT_RETRY
        self._written = ByteCount()
        self._objects = Objects(client, self._retry)
        self._sizes: dict[tuple[Place, int], int] = {}
        self._copying = ThreadPoolExecutor(TRANSFERS, "copy")

    def __repr__(self) -> str:
        return f"GcsStore({self._uri!r})"

    @property
    def uri(self) -> str:
        """`gs://…`."""
        return self._uri

    @property
    def transfers(self) -> int:
        """So many that a processor is busy with requests while most of them are on their way."""
        return TRANSFERS

    @property
    def bytes_written(self) -> int:
        """Bytes uploaded so far; a server-side copy counts nothing."""
        return self._written.total

    def uri_of(self, key: str) -> str:
        """`gs://bucket/name`."""
        return self._place(key).uri

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects under a folder, or the one of exactly this key; a page is asked for when it is needed."""
        return self._list(prefix, self._place_of(checked_prefix(prefix)))

    def open(self, key: str) -> GcsPinned:
        """Opens an object at its present generation; raises ObjectNotFound.

        One request for a small object, and for a large one whose size a listing or a write has told; else two.
        """
        place = self._place(key)
        with explained(place, "read"):
            for attempt in range(ATTEMPTS):
                wait_for_others(attempt, ATTEMPTS, f"{place.uri} was replaced while it was opened", log)
                pinned = self._pin(key, place)
                if pinned:
                    return pinned
        raise ObjectChanged(f"{place.uri}: is being replaced faster than it can be opened; try again")

    def crc32c(self, info: ObjectInfo) -> int:
        """The CRC-32C that the listing told; else one request for the object's metadata."""
        if info.crc32c is not None:
            return info.crc32c
        place = self._place(info.key)
        with explained(place, "read"):
            blob = self._objects.look(place)
            if blob is None:
                raise ObjectNotFound(f"{place.uri}: no object lies here")
            return _checksum(blob)

    def known_crc32c(self, info: ObjectInfo) -> int | None:
        """The CRC-32C that the listing told."""
        return info.crc32c

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """A new empty file in the temporary folder of this machine, locked so that `sweep` leaves it alone."""
        path = Path(tempfile.gettempdir()) / f"{_STAGED}{uuid4().hex}"
        try:
            handle = locked_file(path, os.O_EXCL, 0o600)
        except OSError as error:
            raise lake_error(f"{path} cannot be written", error) from error
        try:
            with explained_when_full(path):
                yield path
        finally:
            try:
                discard(path)
            finally:
                os.close(handle)

    def put(self, staged: Path, keys: Sequence[str], *, expect: Expect = ALWAYS, crc32c: int | None = None) -> None:
        """Uploads the staged file under the first key, then copies it to the others, at once; raises ObjectChanged."""
        check_change(keys, expect)
        first, *others = (self._place(key) for key in keys)
        wanted = None if expect is ALWAYS else _generation(first, expect)
        with explained(first, "written"):
            content = Content.of(staged, crc32c)
            generation = self._objects.publish(first, wanted, content, self._objects.upload)
            self._remember(first, generation, content.size)
            self._written.add(content.size)
        copies = [self._copying.submit(self._copy, content, first, generation, place) for place in others]
        wait(copies)  # all of them, even after an error: what is staged may go once this returns
        for copied in copies:
            copied.result()

    def delete(self, key: str, *, expect: Expect = ALWAYS) -> None:
        """Removes an object; raises ObjectChanged."""
        check_change([key], expect)
        place = self._place(key)
        with explained(place, "removed"):
            if expect is None:
                if self._objects.look(place) is None:
                    return
            elif expect is not ALWAYS:
                if self._objects.remove(place, _generation(place, expect)):
                    return
            else:
                # At a generation here too, so that a repeated request never removes what is published meanwhile.
                for attempt in range(ATTEMPTS):
                    wait_for_others(attempt, ATTEMPTS, f"{place.uri} was replaced before it was removed", log)
                    blob = self._objects.look(place)
                    if blob is None or self._objects.remove(place, int(blob.generation)):
                        return
        raise ObjectChanged(f"{place.uri}: is no longer what was expected; read it again")

    def sweep(self) -> int:
        """Removes staged files of killed runs from this machine's temporary folder.

        An upload that was broken off leaves no object in the bucket.
        """
        return sweep_orphans(Path(tempfile.gettempdir()).glob(f"{_STAGED}*"))

    def _place(self, key: str) -> Place:
        return self._place_of(checked_key(key))

    def _place_of(self, text: str) -> Place:
        root, slash, rest = text.partition("/")
        if root not in self.places:
            raise LakeError(f"{text!r} lies in no root of {self._uri}; there are {', '.join(self.places)}")
        if not slash:
            raise LakeError(f"{text!r} is a root of the lake, not an object in it; add `/` to list it")
        bucket, before = self.places[root]
        return Place(bucket, before + rest)

    def _list(self, prefix: str, place: Place) -> Iterator[ObjectInfo]:
        root = prefix.partition("/")[0]
        cut = len(self.places[root][1])
        # Of all names that begin with a whole key, the key's own comes first.
        limit = None if prefix.endswith("/") else 1
        with explained(place, "listed"):
            for blob in self._client.list_blobs(
                place.bucket, prefix=place.name, max_results=limit, fields=_FIELDS, retry=self._retry
            ):
                key = f"{root}/{blob.name[cut:]}"
                if is_key(key) and (limit is None or key == prefix):
                    size = blob.size or 0  # some servers say nothing of a size of 0
                    self._remember(Place(place.bucket, blob.name), int(blob.generation), size)
                    yield ObjectInfo(key, size, _checksum(blob))

    def _copy(self, content: Content, source: Place, generation: int, place: Place) -> None:
        with explained(place, "written"):
            try:
                self._objects.publish(place, None, content, self._objects.copier(source, generation))
            except NotFound:  # somebody has replaced the first object: there is nothing left to copy from
                self._objects.publish(place, None, content, self._objects.upload)
                self._written.add(content.size)

    def _remember(self, place: Place, generation: int, size: int) -> None:
        """A generation never changes, so its size may be kept; this saves `open` a request."""
        if len(self._sizes) >= _REMEMBERED:
            self._sizes.clear()
        self._sizes[place, generation] = size

    def _pin(self, key: str, place: Place) -> GcsPinned | None:
        """Opens what is there now; None if it was replaced between two requests."""
        try:
            blob, tail = self._retry(self._tail)(place)
        except NotFound as error:
            if bucket_is_missing(error):
                raise
            raise ObjectNotFound(f"{place.uri}: no object lies here") from error
        except RequestRangeNotSatisfiable:  # what an empty object answers
            blob, tail = self._objects.look(place), b""
            if blob is None or blob.size:
                return None
        generation = int(blob.generation)
        size = len(tail) if len(tail) < TAIL_BYTES else self._sizes.get((place, generation))
        if size is None:
            found = self._objects.look(place, generation)
            if found is None:
                return None
            size = found.size or 0
        info = ObjectInfo(key, size, _checksum(blob))
        if len(tail) == size and crc32c_of_bytes(tail) != info.crc32c:
            raise LakeError(f"{place.uri}: arrived damaged: its CRC-32C is not the one that was announced; try again")
        return GcsPinned(info, generation, PinnedBytes(self._client, place, info, generation, tail, self._retry))

    def _tail(self, place: Place) -> tuple[Any, bytes]:
        # Without the client's own retry: after a break it would go on at the wrong place in an object that is shorter
        # than the tail. Each attempt begins anew instead.
        blob = self._objects.blob(place)
        return blob, blob.download_as_bytes(start=-TAIL_BYTES, retry=None, **RAW)


def _generation(place: Place, expect: Expect) -> int:
    if expect is None:
        return 0
    if not isinstance(expect, GcsPinned):
        raise LakeError(f"{place.uri}: what is expected here was opened by another store: {expect!r}")
    return expect.generation


def _checksum(blob: Any) -> int:
    return int.from_bytes(base64.b64decode(blob.crc32c), "big")
