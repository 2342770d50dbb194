"""Fetching a vendor's files: from the cache where it still holds what lies at the vendor, else over the network."""

import io
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.sources.downloads.body import Body, Replaced, same_version
from market_data_pipeline.sources.downloads.cache import Cache, Entry, Note
from market_data_pipeline.sources.downloads.http import Advice, Http, shown
from market_data_pipeline.sources.downloads.progress import Progress
from market_data_pipeline.sources.downloads.remote import Remote
from market_data_pipeline.sources.downloads.tries import NotFetched, Patience

log = logging.getLogger(__name__)

_COPY = 1 << 20
_ROUNDS = 3
"""How often a file is fetched that comes with a wrong checksum, or is replaced meanwhile."""
# files are packed already: a vendor that marks them as gzip by Content-Encoding must not unpack them for us
_PACKED = {"Accept-Encoding": "gzip"}

Checksum = Callable[[], str]
"""Asks for the sha256 that the vendor gives of a file now, in hexadecimal."""


class Downloads:
    """The files of one vendor. May be used from any thread.

    Args:
        remote: how much may be fetched at once and kept.
        key: for requests to this vendor; empty for none.
        advice: what to do about a status that the vendor answers with.
        patience: how long the vendor is waited for.
    """

    def __init__(self, remote: Remote, key: str, advice: Advice, patience: Patience | None = None) -> None:
        self._http = Http(key, patience or Patience(), advice, remote.downloads)
        self._cache = Cache(remote.cache, remote.cache_bytes) if remote.cache_bytes else None
        self._slots = threading.BoundedSemaphore(remote.downloads)
        self._progress = Progress()

    def content(self, url: str) -> bytes:
        """A small answer, held in memory and not kept; raises as `Http.content`."""
        return self._http.content(url)

    def json(self, url: str) -> Any:
        """A small answer that is JSON, likewise; raises as `Http.json`."""
        return self._http.json(url)

    @contextmanager
    def stream(self, url: str) -> Iterator[IO[bytes]]:
        """A file from its first byte to its last: the kept one if it is the vendor's, else straight from the network.

        With a cache the file is fetched whole before the first byte is given; without one it never lies on a disk.

        Raises:
            Refused: the vendor refuses for good.
            NotFetched: it could not be had whole, or the cache's folder cannot be used.
        """
        if self._cache is not None:
            with self.file(url) as kept:
                yield kept
            return
        with self._slots, ExitStack() as held:
            response = self._http.get(url, _PACKED)
            body = held.enter_context(self._body(url, response))
            yield io.BufferedReader(body, _COPY)

    @contextmanager
    def file(self, url: str, checksum: Checksum | None = None) -> Iterator[IO[bytes]]:
        """A whole file, in which one may jump; kept where there is a cache, else in a temporary one.

        Args:
            url: its address.
            checksum: what its sha256 should be. A kept file of this checksum is not asked for again.

        Raises:
            Refused: the vendor refuses for good.
            NotFetched: it could not be had whole, keeps having a wrong checksum, or the folder cannot be used.
        """
        if self._cache is None:
            with tempfile.TemporaryFile() as temporary:
                with self._slots, _room_for(url):
                    self._save(url, temporary, checksum, checksum and checksum(), self._http.get(url, _PACKED))
                temporary.seek(0)
                yield temporary
            return
        with self._cache.entry(url) as entry:
            kept = entry.open(self._current(url, entry, checksum))
        with kept:
            yield kept

    @contextmanager
    def trusting(self, url: str) -> Iterator[None]:
        """While a file is read: if it is no good, the kept one is forgotten, and fetched anew next time.

        What is said of its content does not show the key, as a vendor may give back what it was sent.
        """
        try:
            yield
        except NotFetched:
            raise
        except SourceError as error:
            if self._cache is not None:
                self._cache.forget(url)
            if (plain := self._http.plain(error)) != str(error):
                raise SourceError(plain) from None
            raise

    def _current(self, url: str, entry: Entry, checksum: Checksum | None) -> Note:
        """Has the entry hold what lies at the vendor now."""
        kept, wanted = entry.note(), checksum and checksum()
        if kept is not None and wanted == kept.sha256:
            return kept
        with self._slots:
            response = self._http.get(url, _PACKED | (_conditions(kept) if kept and not wanted else {}))
            if kept is not None and not wanted and (response.status_code == 304 or _is_kept(kept, response.headers)):
                response.close()
                return kept
            if kept is not None:
                log.info("%s: another file lies there now; fetched anew", shown(url))
            with entry.part() as part:
                body = self._save(url, part, checksum, wanted, response)
                return entry.keep(
                    part,
                    digest=body.sha256,
                    etag=body.headers.get("ETag", ""),
                    modified=body.headers.get("Last-Modified", ""),
                )

    def _save(self, url: str, file: IO[bytes], checksum: Checksum | None, wanted: str | None, response: Any) -> Body:
        """Writes the whole file, with the checksum that is wanted; what is fetched again begins anew."""
        for last in (False,) * (_ROUNDS - 1) + (True,):
            file.seek(0)
            file.truncate()
            try:
                with self._body(url, response) as body:
                    shutil.copyfileobj(body, file, _COPY)
            except Replaced:
                if last:
                    raise
                log.info("%s: replaced while it was fetched; fetched anew", shown(url))
            else:
                if wanted in (None, body.sha256):
                    return body
                if last:
                    break
                log.info("%s: its checksum is wrong; fetched again", shown(url))
            wanted = checksum and checksum()
            response = self._http.get(url, _PACKED)
        raise NotFetched(
            f"{shown(url)}: its sha256 is {body.sha256}, the vendor's checksum file says {wanted}; fetched {_ROUNDS} "
            "times: run it again later, and tell the vendor if it stays so"
        )

    @contextmanager
    def _body(self, url: str, response: Any) -> Iterator[Body]:
        size = response.headers.get("Content-Length")
        with self._progress.transfer(shown(url), int(size) if size else None) as came:
            body = Body(self._http, url, response, came)
            try:
                yield body
            finally:
                body.close()


@contextmanager
def _room_for(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotFetched(
            f"{shown(url)}: cannot be written to {tempfile.gettempdir()}: {error.strerror or error}; make room, or set "
            "TMPDIR to a folder that has more"
        ) from error


def _conditions(kept: Note) -> dict[str, str]:
    if kept.etag:
        return {"If-None-Match": kept.etag}
    return {"If-Modified-Since": kept.modified} if kept.modified else {}


def _is_kept(kept: Note, headers: Any) -> bool:
    """Whether a whole answer's head says that the kept file is the same (from vendors that know no conditions)."""
    marks = {name: text for name, text in (("ETag", kept.etag), ("Last-Modified", kept.modified)) if text}
    known = [name for name in marks if headers.get(name)]
    return bool(known) and same_version(marks, headers) and headers.get("Content-Length") == str(kept.size)
