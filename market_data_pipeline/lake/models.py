"""The records of models: JSON beside the lake, each under a name that holds a hash of its bytes.

So a name always means the same model: one that is trained on other data has another name, and the old one stays.
"""

import json
from datetime import date
from hashlib import sha256
from typing import Any

from market_data_pipeline.lake.stores.content import crc32c_of_bytes
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import MODEL_LAYOUT
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.layouts import instrument_fields

_KIND = "logistic"
_HASH_DIGITS = 16


def model_key(day: date, instrument: Instrument, name: str) -> str:
    """Where the model of an instrument's day lies; raises LayoutError where the name is none."""
    return MODEL_LAYOUT.format(day, **instrument_fields(instrument), model=name)


def keep_model(store: ObjectStore, day: date, instrument: Instrument, record: dict[str, Any]) -> str:
    """Keeps a model's record, unless it is there already; returns its name.

    Raises:
        LakeError: the lake cannot be written.
    """
    content = json.dumps(record, ensure_ascii=False, allow_nan=False, indent=1).encode()
    name = _name(content)
    key = model_key(day, instrument, name)
    there = next(store.list(key), None)
    if there is None or there.size != len(content) or store.crc32c(there) != crc32c_of_bytes(content):
        with store.stage() as staged:
            staged.write_bytes(content)
            store.put(staged, [key])
    return name


def model_record(store: ObjectStore, day: date, instrument: Instrument, name: str) -> dict[str, Any]:
    """The record of the model that a row of signals names; `transforms.signals.model_of` makes the model from it.

    Raises:
        ObjectNotFound: there is no such model.
        LakeError: what lies there is not what its name says.
    """
    key = model_key(day, instrument, name)
    with store.open(key) as pinned:
        content = pinned.file.read()
    if _name(content) != name:
        raise LakeError(f"{store.uri_of(key)} was changed: its bytes are not those its name says; make {day} again")
    found: dict[str, Any] = json.loads(content)
    return found


def _name(content: bytes) -> str:
    return f"{_KIND}-{sha256(content).hexdigest()[:_HASH_DIGITS]}"
