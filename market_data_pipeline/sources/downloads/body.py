"""The bytes of one file from the network, taken up again where the connection breaks: exactly those, or an error."""

import hashlib
import http.client
import io
from collections.abc import Callable, Mapping
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.sources.downloads.http import Http, Refused, shown
from market_data_pipeline.sources.downloads.tries import NotFetched, Tries, fault

_CHUNK = 1 << 18
_BROKEN = (HTTPError, http.client.HTTPException, OSError)


class Replaced(NotFetched):
    """Another file came to lie under the address while it was read."""


class Body(io.RawIOBase):
    """A file of the network as a stream, as it lies there (packed).

    A broken connection is taken up at the same byte, where the vendor says that the file is the same (`If-Range`). A
    vendor that cannot give the rest gives all again; it counts as the same file if it begins with the same bytes.

    Attributes:
        received: bytes given out so far.
        size: bytes of the file, where the vendor tells.
        headers: of the first answer.
    """

    def __init__(
        self, client: Http, url: str, response: requests.Response, on_bytes: Callable[[int], None] = lambda _: None
    ) -> None:
        self._client, self._url, self._response, self._on_bytes = client, url, response, on_bytes
        self._tries = Tries(client.patience, shown(url))
        self._digest = hashlib.sha256()
        self.headers: Mapping[str, str] = response.headers
        self.size = length(response.headers)
        self.received = 0

    @property
    def sha256(self) -> str:
        """The checksum of the bytes that were given out, in hexadecimal."""
        return self._digest.hexdigest()

    def tell(self) -> int:
        """How many bytes have been read."""
        return self.received

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer, as far as bytes are there; 0 only at the end of the whole file.

        Raises:
            Replaced: the connection broke, and another file lies there now.
            SourceError: it kept breaking, or the file is empty.
        """
        view = memoryview(buffer).cast("B")
        while True:
            try:
                chunk = self._response.raw.read1(min(len(view), _CHUNK), decode_content=False)
            except _BROKEN as error:
                self._resume(fault(error))
                continue
            if chunk:
                view[: len(chunk)] = chunk
                self._count(chunk)
                return len(chunk)
            if self.size is not None and self.received < self.size:
                self._resume(f"ended after {self.received} of {self.size} bytes")
                continue
            if not self.received:
                raise SourceError(
                    f"{shown(self._url)}: the vendor gave 0 bytes (an empty day is an empty text, packed); run it again"
                )
            return 0

    def close(self) -> None:
        """Lets go of the connection."""
        self._response.close()
        super().close()

    def _count(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.received += len(chunk)
        self._tries.progressed()
        self._on_bytes(len(chunk))

    def _resume(self, why: str) -> None:
        while True:
            self._response.close()
            self._tries.again(why)
            try:
                self._response = self._client.get(self._url, self._range(), self._tries)
            except Refused as refused:
                if refused.status != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                    raise
                raise self._replaced() from None
            if not self._same_file():
                raise self._replaced()
            try:
                if self._response.status_code == http.client.PARTIAL_CONTENT or self._begins_alike():
                    return
            except _BROKEN as error:
                why = fault(error)
                continue
            raise self._replaced()

    def _range(self) -> dict[str, str]:
        tag = self.headers.get("ETag", "")
        known = tag if tag and not tag.startswith("W/") else self.headers.get("Last-Modified", "")
        headers = {"Accept-Encoding": "gzip"}
        if self.received and known:
            headers |= {"Range": f"bytes={self.received}-", "If-Range": known}
        return headers

    def _same_file(self) -> bool:
        """Whether nothing in the answer's head says that it is of another file, or of another part of it."""
        headers = self._response.headers
        if not same_version(self.headers, headers):
            return False
        if self._response.status_code == http.client.PARTIAL_CONTENT:
            first, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
            return first.partition("-")[0] == str(self.received) and (self.size is None or total == str(self.size))
        return self.size == length(headers)

    def _begins_alike(self) -> bool:
        digest, left = hashlib.sha256(), self.received
        while left:
            chunk = self._response.raw.read1(min(left, _CHUNK), decode_content=False)
            if not chunk:
                raise OSError("ended early")
            digest.update(chunk)
            left -= len(chunk)
        return digest.digest() == self._digest.digest()

    def _replaced(self) -> Replaced:
        return Replaced(f"{shown(self._url)}: another file came to lie there while it was read; run it again")


def length(headers: Mapping[str, str]) -> int | None:
    """Bytes of the body, where the head tells."""
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdecimal() else None


def same_version(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether no mark of version (ETag, else Last-Modified) differs; one that a head lacks tells nothing."""
    for name in ("ETag", "Last-Modified"):
        first, second = one.get(name), other.get(name)
        if first and second:
            return first.removeprefix("W/") == second.removeprefix("W/")
    return True
