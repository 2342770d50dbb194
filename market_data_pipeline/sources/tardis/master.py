"""The instrument master of Tardis: tick sizes, lots, multipliers, listing and expiry, as they were at a moment.

Format: https://docs.tardis.dev/api/instruments-metadata-api (records; `changes` holds what was so until some time)
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from market_data_pipeline.model.datasets import LISTING_SCHEMA
from market_data_pipeline.model.errors import InstrumentError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.windows import DAY, midnight
from market_data_pipeline.sources.symbols import instrument_of
from market_data_pipeline.sources.tardis.catalogue import Exchange, instant
from market_data_pipeline.sources.venues import contract_of

Record = Mapping[str, Any]

_MULTIPLIER = "contractMultiplier"


def instrument_in(record: Record) -> Instrument | None:
    """The instrument that a record is of; None where no rule tells its symbol apart."""
    try:
        return instrument_of(str(record["exchange"]), str(record.get("datasetId") or record["id"]))
    except InstrumentError:
        return None


def as_of(record: Record, moment: datetime) -> Record:
    """A record with the values that held at a moment, as far as the vendor knows its changes."""
    later = [change for change in record.get("changes") or () if (instant(change["until"]) or moment) > moment]
    then = dict(record)
    # each change holds what was so until its time: of several later ones, the earliest is the one that counts
    for change in sorted(later, key=lambda change: str(change["until"]), reverse=True):
        then |= {name: value for name, value in change.items() if name != "until"}
    return then


def listing_from_records(records: Iterable[Record], day: date) -> pa.Table:
    """The instruments that a master knew at 00:00 UTC of a day: rows of LISTING_SCHEMA, in order of instrument_id."""
    rows: dict[str, dict[str, object]] = {}
    for record in records:
        instrument = instrument_in(record)
        if instrument is not None and _stands(record, midnight(day)):
            rows[instrument.id] = _row(instrument, as_of(record, midnight(day)))
    return _table(rows)


def listing_from_exchange(exchange: Exchange, day: date) -> pa.Table:
    """The same from the API of exchanges, which tells symbols and days; what an id does not say either is null."""
    rows: dict[str, dict[str, object]] = {}
    for instrument, symbols in exchange.known.items():
        for symbol in symbols:
            end = midnight(instrument.expiry) + DAY if instrument.expiry else symbol.until
            if symbol.since <= midnight(day) and (end is None or midnight(day) < end):
                known = {"id": symbol.id, "availableSince": symbol.since.isoformat()}
                rows[instrument.id] = _row(instrument, known)
    return _table(rows)


def _stands(record: Record, moment: datetime) -> bool:
    start = instant(record.get("listing")) or instant(record["availableSince"])
    # on its last day an instrument trades until its expiry, though the vendor's own days end before
    end = instant(record.get("expiry")) or instant(record.get("availableTo"))
    return start is not None and start <= moment and (end is None or moment < end)


def _row(instrument: Instrument, record: Record) -> dict[str, object]:
    rule = contract_of(instrument)
    multiplier = record.get(_MULTIPLIER)
    expiry = instant(record.get("expiry"))
    # of an id the day is known, not the hour: it can be traded until that day's end
    end = expiry or (instrument.expiry and midnight(instrument.expiry) + DAY)
    return {
        "instrument_id": instrument.id,
        "venue": instrument.venue,
        "instrument_type": instrument.type.folder,
        "venue_symbol": record["id"],
        "base_asset": instrument.base,
        "quote_asset": instrument.quote,
        "settle_asset": record.get("settlementCurrency"),
        "underlying": record.get("underlyingIndex"),
        "strike": None if instrument.strike is None else float(instrument.strike),
        "option_type": instrument.option_type,
        "expiry": expiry or (instrument.expiry and midnight(instrument.expiry)),
        "tick_size": _number(record.get("priceIncrement")),
        "lot_size": _number(record.get("amountIncrement")),
        "contract_multiplier": rule.multiplier if multiplier is None else _number(multiplier),
        "inverse": record.get("inverse", rule.inverse),
        "available_from": instant(record.get("listing")) or instant(record["availableSince"]),
        "available_to": end,
        "known_from": "listing",
    }


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _table(rows: Mapping[str, Mapping[str, object]]) -> pa.Table:
    return pa.Table.from_pylist([dict(rows[key]) for key in sorted(rows)], LISTING_SCHEMA)
