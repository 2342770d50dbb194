"""How long to wait before another attempt at what other runs have come in the way of."""

import random
import time
from logging import Logger

_FIRST = 0.05
_LONGEST = 5.0


def wait_for_others(attempt: int, of: int, what: str, log: Logger) -> None:
    """Sleeps before an attempt: a random time, at most 0.05 s, then twice as long each time up to 5 s; says so.

    Args:
        attempt: which attempt comes; nothing is waited for before the first, 0.
        of: how many there are.
        what: which object, and what happened to it.
        log: is told.
    """
    if attempt:
        pause = random.uniform(0, min(_LONGEST, _FIRST * 2 ** (attempt - 1)))  # noqa: S311 - jitter, no secret
        log.info("%s; attempt %d of %d in %.2f s", what, attempt + 1, of, pause)
        time.sleep(pause)
