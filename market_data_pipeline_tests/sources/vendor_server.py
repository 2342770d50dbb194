"""A small, honest server that speaks both vendors' URL schemes over real HTTP; records requests, makes faults.

Tardis' files lie under `/v1`, its API under `/api`; Binance's files under `/data`, its bucket's lists under `/bucket`.
`vendor_days.py` gives it a day to serve, and runs it by hand.
"""

import gzip
import hashlib
import io
import json
import re
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from market_data_pipeline.sources.downloads.remote import Remote

_RANGE = re.compile(r"bytes=(\d+)-")


@dataclass(frozen=True)
class Request:
    """One request as it was served."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    status: int
    sent: int


@dataclass
class Fault:
    """What goes wrong with the next requests whose path holds a text.

    Attributes:
        part: the text.
        times: how many of them.
        status: the answer given instead of the right one, with `headers` and `body`.
        cut: the connection breaks after so many bytes of the body.
        stall: so many bytes are given, and then none until the event is set.
        after: called when the answer, or what there is of it, has been sent.
    """

    part: str
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    stall: tuple[int, threading.Event] | None = None
    after: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Stored:
    """A file as it lies there."""

    content: bytes
    modified: datetime

    @property
    def etag(self) -> str:
        """The mark of its version."""
        return f'"{hashlib.md5(self.content).hexdigest()}"'


@dataclass
class Answer:
    """What is sent back."""

    status: int
    body: bytes
    headers: dict[str, str]


class VendorServer:
    """A server on a port of this machine.

    Attributes:
        files: path to file.
        requests: all that were served, in order.
        faults: what will go wrong.
        key: what `Authorization: Bearer` must hold for Tardis' files but on the first day of a month, and for the
            instruments; None if anything will do.
        marks: the headers that tell a file's version.
        ranges: whether a part of a file can be asked for.
        conditions: whether If-None-Match and If-Modified-Since are known.
        lengths: whether the length is told beforehand (else the body is chunked).
        page: names in one page of a list.
        busiest: how many answers were under way at once, at most.
    """

    def __init__(self, port: int = 0) -> None:
        self.files: dict[str, Stored] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.key: str | None = None
        self.marks: tuple[str, ...] = ("ETag", "Last-Modified")
        self.ranges = self.conditions = self.lengths = True
        self.page = 1000
        self.busiest = self._busy = 0
        self._clock = datetime(2024, 9, 1, tzinfo=UTC)
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"vendor": self})
        self._server = _Server(("127.0.0.1", port), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> "VendorServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def remote(self, **changed: Any) -> Remote:
        """The settings that lead here."""
        return Remote(
            **{
                "tardis_url": self.url,
                "tardis_api_url": f"{self.url}/api",
                "binance_url": self.url,
                "binance_list_url": f"{self.url}/bucket",
                "cache_bytes": 0,
            }
            | changed
        )

    def put(self, path: str, content: bytes) -> str:
        """Puts a file there, in place of the one before it; its address."""
        self._clock += timedelta(minutes=1)
        self.files[path] = Stored(content, self._clock)
        return self.url + path

    def put_json(self, path: str, value: object) -> str:
        """The same with JSON."""
        return self.put(path, json.dumps(value).encode())

    def put_tardis(self, exchange: str, data_type: str, day: date, symbol: str, text: bytes) -> str:
        """A file of Tardis: text, packed."""
        return self.put(f"/v1/{exchange}/{data_type}/{day:%Y/%m/%d}/{symbol}.csv.gz", gzipped(text))

    def put_binance(self, path: str, text: bytes) -> str:
        """A file of the archive below `/data`, text in a zip, and the checksum beside it."""
        name = path.rpartition("/")[2]
        packed = zipped(name.replace(".zip", ".csv"), text)
        checksum = hashlib.sha256(packed).hexdigest()
        self.put(f"/data/{path}.CHECKSUM", f"{checksum}  {name}\n".encode())
        return self.put(f"/data/{path}", packed)

    def asked(self, part: str) -> list[Request]:
        """The requests so far whose path holds a text."""
        with self.lock:
            return [request for request in self.requests if part in request.path]

    @contextmanager
    def busy(self) -> Iterator[None]:
        """One answer more is under way."""
        with self.lock:
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        try:
            yield
        finally:
            with self.lock:
                self._busy -= 1

    def fault(self, path: str) -> Fault | None:
        """What goes wrong with this request."""
        with self.lock:
            for fault in self.faults:
                if fault.part in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def answer(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """The right answer."""
        if path == "/bucket":
            return self._list(query)
        if self._needs_key(path) and self.key is not None and headers.get("Authorization") != f"Bearer {self.key}":
            given = headers.get("Authorization", "no key")
            return _json(401, {"code": 100, "message": f"Invalid API key provided: {given}"})
        stored = self.files.get(path)
        if stored is None:
            return _json(404, {"code": 404, "message": "There is no such file"})
        return self._file(stored, headers)

    def _needs_key(self, path: str) -> bool:
        return path.startswith("/api/instruments/") or (path.startswith("/v1/") and "/01/" not in path)

    def _file(self, stored: Stored, headers: Mapping[str, str]) -> Answer:
        marks = {"ETag": stored.etag, "Last-Modified": format_datetime(stored.modified, usegmt=True)}
        marks = {name: marks[name] for name in self.marks}
        if self.conditions:
            wanted = headers.get("If-None-Match"), headers.get("If-Modified-Since")
            if (wanted[0] or wanted[1]) in (marks.get("ETag"), marks.get("Last-Modified")) and any(wanted):
                return Answer(304, b"", marks)
        match = _RANGE.fullmatch(headers.get("Range", "")) if self.ranges else None
        if match and headers.get("If-Range") in (None, *marks.values()):
            first, size = int(match[1]), len(stored.content)
            if first >= size:
                return Answer(416, b"", marks | {"Content-Range": f"bytes */{size}"})
            return Answer(206, stored.content[first:], marks | {"Content-Range": f"bytes {first}-{size - 1}/{size}"})
        return Answer(200, stored.content, marks)

    def _list(self, query: Mapping[str, str]) -> Answer:
        prefix, marker = query.get("prefix", ""), query.get("marker", "")
        names = set()
        for path in self.files:
            key = path.removeprefix("/")
            if key.startswith(prefix):
                folder, slash, _ = key[len(prefix) :].partition("/")
                names.add(f"{prefix}{folder}/" if slash else key)
        after = sorted(name for name in names if name > marker)
        page = after[: self.page]
        cut = len(after) > len(page)
        inner = "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            if name.endswith("/")
            else f"<Contents><Key>{escape(name)}</Key><Size>1</Size></Contents>"
            for name in page
        )
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Prefix>{escape(prefix)}</Prefix><IsTruncated>{str(cut).lower()}</IsTruncated>"
            f"{f'<NextMarker>{escape(page[-1])}</NextMarker>' if cut else ''}{inner}</ListBucketResult>"
        )
        return Answer(200, body.encode(), {"Content-Type": "application/xml"})


@lru_cache
def gzipped(text: bytes) -> bytes:
    """A text as Tardis packs it."""
    return gzip.compress(text, 1, mtime=0)


@lru_cache
def zipped(name: str, text: bytes) -> bytes:
    """A text as the archive packs it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _json(status: int, value: object) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent where a client has gone, as clients do that stop early."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    vendor: VendorServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query))
        headers = {name.title(): text for name, text in self.headers.items()}
        fault = self.vendor.fault(path)
        with self.vendor.busy():
            if fault is not None and fault.status is not None:
                answer = Answer(fault.status, fault.body, dict(fault.headers))
            else:
                answer = self.vendor.answer(path, query, {"Range": "", **self.headers})
            request = Request(path, query, headers, answer.status, len(answer.body))
            with self.vendor.lock:
                self.vendor.requests.append(request)
                place = len(self.vendor.requests) - 1
            sent = self._send(answer, fault)
            with self.vendor.lock:
                self.vendor.requests[place] = replace(request, sent=sent)
        if fault is not None:
            fault.after()

    def _send(self, answer: Answer, fault: Fault | None) -> int:
        self.send_response(answer.status)
        for name, text in answer.headers.items():
            self.send_header(name, text)
        chunked = not self.vendor.lengths and answer.status == 200
        if answer.status != 304:
            told = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(answer.body)))
            self.send_header(*told)
        self.end_headers()
        body = answer.body
        try:
            if fault is not None and fault.stall is not None:
                count, event = fault.stall
                self._write(body[:count], chunked)
                event.wait(30)
                body = body[count:]
            if fault is not None and fault.cut is not None and fault.cut < len(body):
                self._write(body[: fault.cut], chunked)
                self.close_connection = True
                return fault.cut
            self._write(body, chunked)
            if chunked:
                self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        return len(body)

    def _write(self, body: bytes, chunked: bool) -> None:
        if body:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body) if chunked else body)
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Silent."""
