"""Which store an address means. The cloud's client is imported only for an address in the cloud."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.stores.keys import is_key
from market_data_pipeline.lake.stores.local import LocalStore
from market_data_pipeline.model.datasets import ROOTS
from market_data_pipeline.model.errors import SettingError

_POSSIBLE = "give a folder, gs://bucket, gs://bucket/prefix, or gs:// for one bucket per root"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


def open_store(
    url: str | Path, buckets: Mapping[str, str] | None = None, *, client: Any | None = None, emulator: str = ""
) -> ObjectStore:
    """The store at an address.

    Args:
        url: a folder, `gs://bucket[/prefix]`, or `gs://`, where each root is a bucket of its own.
        buckets: with `gs://`, the bucket of each root that has another name than the root; else of no effect.
        client: a `google.cloud.storage.Client`; made from the environment if None. Of no effect for a folder.
        emulator: the address of a GCS test server, for which the client is made; what STORAGE_EMULATOR_HOST names where
            it is empty. Of no effect beside a client.

    Raises:
        SettingError: the address or a bucket's name cannot be used, or no Google credentials were found.
    """
    text = str(url)
    if not text.strip():
        raise SettingError(f"the lake's address is empty; {_POSSIBLE}")
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise SettingError("the lake's address holds a user name or password; leave it out: it stands in messages")
    if not text.startswith("gs://"):
        if _SCHEME.match(text):
            raise SettingError(f"{text!r} is no address of a lake; {_POSSIBLE}")
        return LocalStore(folder_at(text, "the lake's address"))
    places = _places(text, buckets or {})

    from market_data_pipeline.lake.stores.gcs import GcsStore, client_from_environment

    address = text if text == "gs://" else text.rstrip("/")
    return GcsStore(client or client_from_environment(emulator), places, uri=address)


def folder_at(text: str, whose: str) -> Path:
    """The path of a folder, with `~` as the shell reads it; raises SettingError where it can be none."""
    if "\0" in text:
        raise SettingError(f"{whose} is {text!r}: no folder's name holds a zero byte")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # `~name` of a user who is not known here
        raise SettingError(f"{whose} is {text!r}: {error}; write the folder out") from error


def _places(url: str, buckets: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """For each root its bucket and what stands before the rest of a key there."""
    bucket, _, prefix = url.removeprefix("gs://").partition("/")
    prefix = prefix.rstrip("/")
    if not bucket:
        if prefix:
            raise SettingError(f"{url!r} names no bucket; {_POSSIBLE}")
        return _own_buckets(buckets)
    if prefix and not is_key(prefix):
        raise SettingError(f"{url!r}: {prefix!r} cannot stand before the names of objects; give folders like a/b")
    _check_bucket(bucket, url)
    return {root: (bucket, f"{prefix}/{root}/" if prefix else f"{root}/") for root in ROOTS}


def _own_buckets(buckets: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    unknown = sorted(set(buckets) - set(ROOTS))
    if unknown:
        raise SettingError(f"{unknown[0]!r} is no root of the lake; there are {', '.join(ROOTS)}")
    names = {root: buckets.get(root) or root for root in ROOTS}
    for root, name in names.items():
        _check_bucket(name, f"the bucket of {root}")
    shared = [name for name in names.values() if list(names.values()).count(name) > 1]
    if shared:
        # Their objects would lie among each other without anything to tell them apart.
        raise SettingError(f"{shared[0]!r} is the bucket of several roots; give each its own, or use gs://{shared[0]}")
    return {root: (name, "") for root, name in names.items()}


def _check_bucket(name: str, where: str) -> None:
    if not _BUCKET.fullmatch(name):
        raise SettingError(
            f"{where}: {name!r} is no bucket's name: 3 to 222 lower-case letters, digits, dots, dashes and underscores"
        )
