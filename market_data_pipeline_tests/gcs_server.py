"""A small, honest server for the JSON API of Google Cloud Storage over real HTTP; records requests, makes faults.

Only what speaks HTTP belongs here; the service's own rules stand in `gcs_memory.py`.
Run by hand: `python -m market_data_pipeline_tests.gcs_server --port 9000`, then `STORAGE_EMULATOR_HOST=http://127.0.0.1:9000`.
"""

import argparse
import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4

from market_data_pipeline_tests.gcs_memory import Memory, Refused, Rewrite, Session, Stored

_API = r"(?:/download|/upload)?/storage/v1"
_BUCKETS = re.compile(rf"{_API}/b")
_BUCKET = re.compile(rf"{_API}/b/([^/]+)")
_LISTING = re.compile(rf"{_API}/b/([^/]+)/o")
_OBJECT = re.compile(rf"{_API}/b/([^/]+)/o/([^/]+)")
_COPY = re.compile(rf"{_API}/b/([^/]+)/o/([^/]+)/(copyTo|rewriteTo)/b/([^/]+)/o/([^/]+)")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(frozen=True)
class Request:
    """One request as it was served."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    status: int = 0

    @property
    def is_media(self) -> bool:
        """True for a read of content."""
        return self.method == "GET" and self.query.get("alt") == "media"


@dataclass
class Fault:
    """What goes wrong with the next requests that match.

    Attributes:
        matches: which requests.
        times: how many of them.
        status: the answer given instead of the right one.
        cut: the connection breaks after so many bytes of the right answer's body.
        lost: the request is carried out, but the connection breaks before any answer.
        slow: seconds before it is carried out.
    """

    matches: Callable[[Request], bool]
    times: int = 1
    status: int | None = None
    cut: int | None = None
    lost: bool = False
    slow: float = 0.0


@dataclass
class Answer:
    """What is sent back."""

    status: int
    body: bytes
    headers: dict[str, str]


class GcsServer:
    """A server on a port of this machine, of its loopback unless another of its addresses is given.

    Attributes:
        requests: what was served, in order; clear it before what is to be counted.
        page_size: the most entries of one page of a listing.
        rewrite_step: how many bytes one rewrite request copies; None for all at once.
        after: called with each request once it was carried out, before it is answered.
        weather: asked for a fault for each request for which no other was asked for.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self.memory = Memory()
        self.sessions: dict[str, Session] = {}
        self.rewrites: dict[str, Rewrite] = {}
        self.reset()
        server = self

        class Handler(_Handler):
            gcs = server

        self._http = ThreadingHTTPServer((host, port), Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.url = f"http://{host}:{self._http.server_port}"

    def reset(self) -> None:
        """Forgets requests, faults and settings; the objects stay."""
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.page_size = 1000
        self.rewrite_step: int | None = None
        self.after: Callable[[Request], None] | None = None
        self.weather: Callable[[Request], Fault | None] | None = None

    def start(self) -> "GcsServer":
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def serve_forever(self) -> None:
        self._http.serve_forever()

    def fail(self, matches: Callable[[Request], bool], status: int = 503, times: int = 1) -> None:
        """Answers the next requests that match with an error, without carrying them out."""
        self.faults.append(Fault(matches, times, status=status))

    def cut_body(self, matches: Callable[[Request], bool], after: int, times: int = 1) -> None:
        """Breaks the connection midway through the bodies of the next answers that match."""
        self.faults.append(Fault(matches, times, cut=after))

    def lose_answer(self, matches: Callable[[Request], bool], times: int = 1) -> None:
        """Carries out the next requests that match, and breaks the connection instead of answering."""
        self.faults.append(Fault(matches, times, lost=True))

    def take_fault(self, request: Request) -> Fault | None:
        with self.memory.lock:
            for fault in self.faults:
                if fault.times and fault.matches(request):
                    fault.times -= 1
                    return fault
            return self.weather(request) if self.weather else None

    def answer(self, request: Request) -> Answer:
        """Carries out a request."""
        for pattern, serve in (
            (_COPY, self._copy),
            (_OBJECT, self._object),
            (_LISTING, self._objects),
            (_BUCKET, self._bucket),
            (_BUCKETS, self._all_buckets),
        ):
            found = pattern.fullmatch(request.path)
            if found:
                return serve(request, *(unquote(part) for part in found.groups()))
        raise Refused(404, f"no such path: {request.path}")

    def _all_buckets(self, request: Request) -> Answer:
        if request.method == "POST":
            name = json.loads(request.body)["name"]
            self.memory.create(name)
            return _json({"kind": "storage#bucket", "id": name, "name": name})
        return _json({"kind": "storage#buckets", "items": [{"id": b, "name": b} for b in sorted(self.memory.buckets)]})

    def _bucket(self, request: Request, bucket: str) -> Answer:
        self.memory.bucket(bucket)
        return _json({"kind": "storage#bucket", "id": bucket, "name": bucket})

    def _objects(self, request: Request, bucket: str) -> Answer:
        if request.method == "GET":
            limit = min(int(request.query.get("maxResults", self.page_size)), self.page_size)
            return _json(_only(self.memory.page(bucket, request.query, limit), request.query.get("fields")))
        kind = request.query.get("uploadType")
        if kind == "media":
            resource = {"contentType": request.headers.get("content-type")}
            return _json(self.memory.put(bucket, resource, request.body, request.query).resource())
        if kind == "multipart":
            resource, data = _parts(request)
            return _json(self.memory.put(bucket, resource, data, request.query).resource())
        if kind == "resumable":
            return self._resumable(request, bucket)
        raise Refused(400, f"uploadType {kind!r} is unknown")

    def _resumable(self, request: Request, bucket: str) -> Answer:
        if request.method == "POST":
            self.memory.bucket(bucket)
            resource = json.loads(request.body or b"{}")
            name = request.query.get("name") or resource.get("name")
            self.memory.check(self.memory.bucket(bucket).get(name), request.query)
            session = uuid4().hex
            self.sessions[session] = Session(bucket, resource, request.query)
            place = f"{self.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={session}"
            return Answer(200, b"", {"Location": place})
        session = self.sessions.get(request.query.get("upload_id", ""))
        if session is None:
            raise Refused(404, "no such upload")
        found = _CONTENT_RANGE.fullmatch(request.headers.get("content-range", ""))
        if found is None:
            raise Refused(400, "Content-Range is missing")
        first, last, total = found.groups()
        with self.memory.lock:
            if session.finished is None and first is not None:
                if int(last) - int(first) + 1 != len(request.body):
                    raise Refused(400, "Content-Range does not agree with the body")
                if int(first) > len(session.data):
                    raise Refused(503, "a chunk before this one is missing")
                session.data[int(first) :] = request.body
            if session.finished is None and total != "*" and len(session.data) == int(total):
                session.finished = self.memory.put(session.bucket, session.resource, bytes(session.data), session.query)
            if session.finished is not None:
                return _json(session.finished.resource())
            end = len(session.data) - 1
            return Answer(308, b"", {"Range": f"bytes=0-{end}"} if end >= 0 else {})

    def _object(self, request: Request, bucket: str, name: str) -> Answer:
        if request.method == "DELETE":
            self.memory.delete(bucket, name, request.query)
            return Answer(204, b"", {})
        found = self.memory.get(bucket, name, request.query)
        return _media(found, request.headers.get("range")) if request.is_media else _json(found.resource())

    def _copy(self, request: Request, bucket: str, name: str, how: str, to_bucket: str, to_name: str) -> Answer:
        source = self.memory.get(bucket, name, request.query, "Source")
        token = request.query.get("rewriteToken") or uuid4().hex
        rewrite = self.rewrites.setdefault(token, Rewrite(source, (to_bucket, to_name)))
        if rewrite.target != (to_bucket, to_name) or rewrite.source is not source:
            raise Refused(400, "the rewrite token belongs to another copy")
        rewrite.done = min(rewrite.done + (self.rewrite_step or len(source.data)), len(source.data))
        told = {"totalBytesRewritten": str(rewrite.done), "objectSize": str(len(source.data))}
        if how == "rewriteTo" and rewrite.done < len(source.data):
            return _json({"kind": "storage#rewriteResponse", "done": False, "rewriteToken": token, **told})
        # What the request says of the object replaces all that the source's metadata say.
        resource = {k: v for k, v in json.loads(request.body or b"{}").items() if k in {"metadata", "contentType"}}
        resource = {**(resource or {"metadata": source.metadata, "contentType": source.content_type}), "name": to_name}
        stored = self.memory.put(to_bucket, resource, source.data, request.query)
        if how == "copyTo":
            return _json(stored.resource())
        return _json({"kind": "storage#rewriteResponse", "done": True, "resource": stored.resource(), **told})


class _Handler(BaseHTTPRequestHandler):
    gcs: GcsServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a header and a body in two packets would cost 40 ms
    wbufsize = -1

    def _serve(self) -> None:
        # The whole body first: a client that is answered before it has sent everything sees a broken pipe.
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, url.path, dict(parse_qsl(url.query)), headers, body)
        fault = self.gcs.take_fault(request)
        if fault and fault.slow:
            time.sleep(fault.slow)
        try:
            if fault and fault.status:
                raise Refused(fault.status, "a fault that a test asked for")
            answer = self.gcs.answer(request)
        except Refused as refused:
            error = {"code": refused.status, "message": refused.message, "errors": [{"message": refused.message}]}
            answer = _json({"error": error}, refused.status, refused.headers)
        if answer.status == 304:
            answer.body = b""
        self.gcs.requests.append(
            Request(request.method, request.path, request.query, headers, request.body, answer.status)
        )
        if self.gcs.after:
            self.gcs.after(request)
        if fault and fault.lost:
            self.close_connection = True
            return
        self._send(answer, fault.cut if fault else None)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 the base class wants these names

    def _send(self, answer: Answer, cut: int | None) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(answer.body if cut is None else answer.body[:cut])
            self.wfile.flush()
        self.close_connection = self.close_connection or cut is not None

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base class names it so
        """Says nothing: the requests are recorded."""


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    body = json.dumps(content).encode()
    return Answer(status, body, {"Content-Type": "application/json; charset=UTF-8", **(headers or {})})


def _media(found: Stored, wanted: str | None) -> Answer:
    size = len(found.data)
    headers = {
        "Content-Type": found.content_type,
        "ETag": f"e{found.generation}",
        "x-goog-generation": str(found.generation),
        "x-goog-metageneration": "1",
        "x-goog-hash": f"crc32c={found.crc32c},md5={found.md5}",
        "x-goog-stored-content-length": str(size),
        "x-goog-stored-content-encoding": "identity",
    }
    given = _RANGE.fullmatch(wanted or "")
    if given is None or given.groups() == ("", ""):
        return Answer(200, found.data, headers)
    first, last = given.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if start >= size or (not first and int(last) == 0):
        raise Refused(416, "The requested range cannot be satisfied.", {"Content-Range": f"bytes */{size}"})
    return Answer(206, found.data[start : end + 1], headers | {"Content-Range": f"bytes {start}-{end}/{size}"})


def _parts(request: Request) -> tuple[dict[str, Any], bytes]:
    """The two parts of a multipart upload: what is said of the object, and its content."""
    boundary = re.search(r'boundary="?([^";]+)"?', request.headers["content-type"])
    if boundary is None:
        raise Refused(400, "multipart without a boundary")
    mark = b"--" + boundary.group(1).encode()
    # The content may hold anything, line breaks too: cut only at the boundaries, and take one line break off each end.
    _, first, rest = request.body.split(mark, 2)
    second = rest[: rest.rindex(mark)]
    resource = first.split(b"\r\n\r\n", 1)[1]
    head, data = second.removeprefix(b"\r\n").split(b"\r\n\r\n", 1)
    kind = BytesParser().parsebytes(head).get_content_type()
    return {"contentType": kind, **json.loads(resource)}, data.removesuffix(b"\r\n")


def _only(page: dict[str, Any], fields: str | None) -> dict[str, Any]:
    """A listing cut down to what `fields` names, in the form `items(name,size),nextPageToken`."""
    if not fields:
        return page
    items = re.search(r"items\(([^)]*)\)", fields)
    names = set(re.sub(r"\([^)]*\)", "", fields).split(","))
    kept = {name: value for name, value in page.items() if name in names}
    if items and "items" in kept:
        inner = items.group(1).split(",")
        kept["items"] = [{name: item[name] for name in inner if name in item} for item in page["items"]]
    return kept


@contextlib.contextmanager
def running_apart() -> Iterator[str]:
    """A server in a process of its own, so that it has an interpreter to itself; gives its address."""
    command = [sys.executable, "-m", __spec__.name, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip().partition("=")[2]
        finally:
            process.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="a server for Google Cloud Storage's API, in memory")
    parser.add_argument("--port", type=int, default=9000)
    serving = GcsServer(parser.parse_args().port)
    print(f"STORAGE_EMULATOR_HOST={serving.url}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        serving.serve_forever()
