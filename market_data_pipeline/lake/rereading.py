"""Reads that begin anew where an object is replaced under them: a store in the cloud keeps no replaced objects."""

import logging
import random
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from market_data_pipeline.model.errors import ObjectChanged

log = logging.getLogger(__name__)

ATTEMPTS = 20
_LONGEST_PAUSE = 2.0
_Asked = ParamSpec("_Asked")
_Read = TypeVar("_Read")


def whole(read: Callable[_Asked, _Read]) -> Callable[_Asked, _Read]:
    """A read of which all is of the objects that it opened, never partly of others that came to lie there meanwhile.

    Where the store tells of a replaced object, all that was read is let go of, and read anew after a random pause. So
    `read` gives its result when it is done, not piece by piece.

    Raises:
        ObjectChanged: the objects were replaced again and again, until all attempts were used up.
    """

    @wraps(read)
    def anew(*args: _Asked.args, **kwargs: _Asked.kwargs) -> _Read:
        for attempt in range(1, ATTEMPTS):
            try:
                return read(*args, **kwargs)
            except ObjectChanged as error:
                pause = random.uniform(0, min(_LONGEST_PAUSE, 0.02 * 2**attempt))  # noqa: S311 - jitter, no secret
                log.info("%s; read anew in %.2f s", error, pause)
                time.sleep(pause)
        return read(*args, **kwargs)

    return anew
