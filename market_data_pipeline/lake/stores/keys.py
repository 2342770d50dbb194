"""What a key and a prefix may be: one rule for all stores, so that data can move from one to another.

Only texts are looked at here; no store is touched.
"""

import re
from collections.abc import Sequence

from market_data_pipeline.lake.stores.contract import ALWAYS, Expect
from market_data_pipeline.model.errors import LakeError

# No part begins with a dot: such names are hidden (temporary files, `..`), a store lists none of them. Lone surrogates
# stand for bytes that are no UTF-8; an object's name on Google Cloud Storage must be UTF-8.
_PART = r"(?!\.)[^/\\\x00-\x1f\x7f\ud800-\udfff]+"
_KEY = re.compile(rf"{_PART}(?:/{_PART})*")
_FOLDER = re.compile(rf"(?:{_PART}/)+")
_RULE = (
    "a key is a relative path with `/` between parts that are not empty, do not begin with a dot and hold no "
    "backslash and no control character"
)


def is_key(text: str) -> bool:
    """True if an object may have this key."""
    return _KEY.fullmatch(text) is not None


def checked_key(key: str) -> str:
    """The key itself; raises LakeError where no object may have it."""
    if not is_key(key):
        raise LakeError(f"{key!r} is no key: {_RULE}")
    return key


def checked_prefix(prefix: str) -> str:
    """The prefix itself; raises LakeError where it is neither a folder's nor a whole key."""
    if not (is_key(prefix) or _FOLDER.fullmatch(prefix)):
        raise LakeError(f"{prefix!r} is no prefix to list: give a folder, which ends in `/`, or a whole key; {_RULE}")
    return prefix


def check_change(keys: Sequence[str], expect: Expect) -> None:
    """Checks what a put or a delete is asked for.

    Raises:
        LakeError: no key at all, a text that is no key, a precondition for several keys or from another key's object.
    """
    if not keys:
        raise LakeError("nothing to publish: give at least one key")
    for key in keys:
        checked_key(key)
    if expect is ALWAYS:
        return
    if len(keys) > 1:
        raise LakeError(f"a precondition holds for one key, not for {len(keys)}: {', '.join(keys)}")
    pinned = getattr(expect, "info", None)
    if pinned is not None and pinned.key != keys[0]:
        raise LakeError(f"{keys[0]}: the precondition names another object, {pinned.key}")
