"""Asking Tardis' API: what there is of an exchange, and the instrument master; answers are kept for a while."""

import json
import logging
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.instruments import Instrument, InstrumentType
from market_data_pipeline.sources.downloads.fetch import Downloads
from market_data_pipeline.sources.downloads.http import Refused, shown
from market_data_pipeline.sources.downloads.remote import Remote
from market_data_pipeline.sources.tardis.catalogue import Exchange, read_exchange
from market_data_pipeline.sources.tardis.master import Record, instrument_in

log = logging.getLogger(__name__)

FRESH = 300.0
"""Seconds for which an answer is taken for what lies there now."""

Master = dict[Instrument, list[Record]]
_T = TypeVar("_T")


class TardisApi:
    """The vendor's API of exchanges and instruments. May be used from any thread."""

    def __init__(self, remote: Remote, downloads: Downloads) -> None:
        self._url, self._has_key = remote.tardis_api_url, bool(remote.tardis_key)
        self._downloads = downloads
        self._recent = _Recent()

    def exchange_url(self, venue: str) -> str:
        """Where the vendor tells what there is of an exchange."""
        return f"{self._url}/exchanges/{venue}"

    def exchange(self, venue: str) -> Exchange:
        """What there is of an exchange; no key is needed.

        Raises:
            SourceError: the answer cannot be had, or has another form.
        """
        url = self.exchange_url(venue)
        return self._recent.get(url, lambda: read_exchange(venue, self._downloads.json(url), url))

    def master(self, venue: str, kinds: frozenset[InstrumentType]) -> Master | None:
        """The master's records of some types by instrument; None without a key that has access to it.

        Raises:
            SourceError: the answer cannot be had, or has another form.
        """
        if not self._has_key:
            return None
        url = f"{self._url}/instruments/{venue}"
        if len(kinds) < len(InstrumentType):
            # deribit alone has had hundreds of thousands of options: what is not wanted is left at the vendor
            url += f"?filter={quote(json.dumps({'type': sorted(kind.folder for kind in kinds)}))}"
        return self._recent.get(url, lambda: self._read_master(url))

    def _read_master(self, url: str) -> Master | None:
        try:
            answer: Any = self._downloads.json(url)
        except Refused as refused:
            if refused.status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise
            log.warning("%s: symbols and days alone are known, no tick sizes and multipliers", refused)
            return None
        master: Master = {}
        try:
            for record in answer:
                instrument = instrument_in(record)
                if instrument is not None:
                    master.setdefault(instrument, []).append(record)
        except (KeyError, TypeError, AttributeError) as error:
            raise SourceError(f"{shown(url)}: the answer has another form than expected ({error!r})") from None
        return master


class _Recent:
    """Answers that are asked for again once they are no longer fresh. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[float, Any]] = {}

    def get(self, key: str, ask: Callable[[], _T]) -> _T:
        """The answer to a question, at most FRESH seconds old; errors are not kept."""
        with self._lock:
            if key in self._answers and time.monotonic() - self._answers[key][0] < FRESH:
                kept: _T = self._answers[key][1]
                return kept
            answer = ask()
            self._answers[key] = (time.monotonic(), answer)
            return answer
