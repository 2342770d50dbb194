"""HTTP for the vendors: one session, transient answers tried again, refusals as errors that say why and what to do."""

import json
import re
from collections.abc import Callable, Mapping
from html import escape
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.sources.downloads.tries import NotFetched, Patience, Tries, fault

Advice = Callable[[int], str]
"""What to do about a status, in a vendor's own terms."""

_GOOD = frozenset({200, 206, 304})
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)
_SHOWN = 300
_LARGEST = 1 << 30
"""Bytes of the largest answer that is held in memory."""


class Refused(NotFetched):
    """The vendor will not give what was asked for, and asking again would not help.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _Bearer(AuthBase):
    """The key as a header. Given as `auth`, requests takes it off where a redirect leads to another host."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def __repr__(self) -> str:
        return "_Bearer(…)"


class _Keyless(AuthBase):
    """No key; without this, requests would look for one in ~/.netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class Http:
    """GET requests to one vendor. May be used from any thread.

    Attributes:
        patience: how long the vendor is waited for.
        advice: what to do about a status.
    """

    def __init__(self, key: str, patience: Patience, advice: Advice, connections: int) -> None:
        self.patience, self.advice = patience, advice
        self._key = key
        self._auth = _Bearer(key) if key else _Keyless()
        self._session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=2 * connections + 2)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def __repr__(self) -> str:
        return "Http(…)"

    def get(self, url: str, headers: Mapping[str, str] | None = None, tries: Tries | None = None) -> requests.Response:
        """The vendor's answer (200, 206 or 304), its body not yet read; close it.

        Raises:
            Refused: the vendor refuses for good.
            NotFetched: it could not be reached in the tries that there are.
        """
        tries = tries or Tries(self.patience, shown(url))
        while True:
            try:
                response = self._session.get(
                    url,
                    headers=dict(headers or {}),
                    auth=self._auth,
                    stream=True,
                    timeout=(self.patience.connect, self.patience.silence),
                )
            except requests.RequestException as error:
                if not isinstance(error, _BROKEN) or isinstance(error, requests.exceptions.SSLError):
                    raise NotFetched(f"{shown(url)}: cannot be asked for ({self.plain(error)})") from None
                tries.again(fault(error))
                continue
            if response.status_code in _GOOD:
                return response
            with response:
                why = f"HTTP {response.status_code} {self._reason(response)}"
                if response.status_code not in _TRANSIENT:
                    advice = self.advice(response.status_code)
                    raise Refused(f"{shown(url)}: {why}{advice and '; '}{advice}", response.status_code)
            tries.again(why, response.headers)

    def content(self, url: str) -> bytes:
        """A small answer, whole and decoded.

        Raises:
            Refused: the vendor refuses for good.
            SourceError: it could not be had whole in the tries that there are, or it is too large.
        """
        tries = Tries(self.patience, shown(url))
        while True:
            with self.get(url, tries=tries) as response:
                parts, size = [], 0
                try:
                    for part in response.iter_content(1 << 18):
                        parts.append(part)
                        size += len(part)
                        if size > _LARGEST:
                            raise SourceError(f"{shown(url)}: more than {_LARGEST >> 20} MiB, which is no list")
                    return b"".join(parts)
                except (requests.RequestException, HTTPError) as error:
                    why = fault(error)
            tries.again(why)

    def json(self, url: str) -> Any:
        """A small answer that is JSON; raises as `content`, and SourceError where it is none."""
        try:
            return json.loads(self.content(url))
        except ValueError:
            raise SourceError(f"{shown(url)}: the answer is no JSON; is the address right?") from None

    def _reason(self, response: requests.Response) -> str:
        """The vendor's own words, in one line and without the key."""
        try:
            text = response.raw.read(4096, decode_content=True).decode("utf-8", "replace").strip()
        except (HTTPError, OSError):
            text = ""
        if text.startswith("{"):
            try:
                told = json.loads(text)
                text = str(told.get("message") or told.get("error") or text)
            except ValueError:
                pass
        elif text.startswith("<"):
            found = _MESSAGE.search(text)
            text = found[1] if found else ""
        return self.plain(" ".join((text or response.reason or "").split()))[:_SHOWN]

    def plain(self, text: object) -> str:
        """The text without the key."""
        plain = str(text)
        key = self._key
        # a server may give back what it was sent in any of these forms
        for secret in (escape(key), quote(key, safe=""), quote(key), key) if key else ():
            plain = plain.replace(secret, "***")
        return plain


def shown(url: str) -> str:
    """An address as messages may show it: without user, password and what follows the path."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
