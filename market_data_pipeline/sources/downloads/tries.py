"""How often a request is tried again, and after how long; what went wrong, in words that hold no address and no key."""

import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from urllib3.exceptions import InvalidHeader, MaxRetryError, ReadTimeoutError
from urllib3.util.retry import RequestHistory, Retry

from market_data_pipeline.model.errors import SourceError

log = logging.getLogger(__name__)

# Retry waits from the second failure on; counting one from the start makes it wait after the first as well
_BEFORE = (RequestHistory(None, None, None, None, None),)


@dataclass(frozen=True)
class Patience:
    """How long a vendor is waited for; times in seconds.

    Attributes:
        tries: how often a request is tried again in a row without getting a byte further.
        step: the first wait is about twice this; each further one is twice the one before.
        longest: no wait is longer, unless the vendor asks for it.
        asked: the longest wait that a vendor may ask for (Retry-After); more is a quota used up, and an error.
        connect: for a connection.
        silence: for the next byte.
    """

    tries: int = 6
    step: float = 0.5
    longest: float = 60.0
    asked: float = 300.0
    connect: float = 10.0
    silence: float = 60.0


class NotFetched(SourceError):
    """A file could not be had; nothing is said of what it holds."""


class Tries:
    """The tries at one address. Starts anew with `progressed`."""

    def __init__(self, patience: Patience, shown: str) -> None:
        self._patience, self._shown = patience, shown
        self.progressed()

    def progressed(self) -> None:
        """Some bytes came: the count starts again."""
        patience = self._patience
        self._retry = Retry(
            total=patience.tries,
            backoff_factor=patience.step,
            backoff_max=patience.longest,
            backoff_jitter=patience.step,
            history=_BEFORE,
        )

    def again(self, why: str, headers: Mapping[str, str] | None = None) -> None:
        """Waits before the next try.

        Args:
            why: what went wrong.
            headers: the answer's, if there was one; its Retry-After counts.

        Raises:
            NotFetched: there have been enough tries, or the vendor wants a wait that is too long.
        """
        asked = _retry_after(self._retry, headers or {})
        if asked is not None and asked > self._patience.asked:
            raise NotFetched(
                f"{self._shown}: {why}; the vendor asks for a pause that is too long (Retry-After: "
                f"{(headers or {})['Retry-After'][:40]}; a quota is used up): run it again then"
            )
        try:
            self._retry = self._retry.increment("GET")
        except MaxRetryError:
            raise NotFetched(
                f"{self._shown}: {why}; given up after {self._patience.tries + 1} tries in a row: run it again later"
            ) from None
        spread = random.random() * self._patience.step  # noqa: S311 no secret
        wait = self._retry.get_backoff_time() if asked is None else asked + spread
        log.info("%s: %s; tried again in %.1f s", self._shown, why, wait)
        time.sleep(wait)


def _retry_after(retry: Retry, headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After")
    try:
        return retry.parse_retry_after(text) if text else None
    except (InvalidHeader, ValueError, OverflowError):
        return None


def fault(error: BaseException) -> str:
    """What broke a connection, without addresses: they may hold what is nobody's business."""
    root = error
    while not isinstance(root, ReadTimeoutError) and (inner := root.__cause__ or root.__context__):
        root = inner
    if isinstance(root, ReadTimeoutError | TimeoutError):
        return "no answer in time"
    text = (root.strerror if isinstance(root, OSError) else None) or type(root).__name__
    return f"the connection broke ({text})"
