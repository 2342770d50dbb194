"""The availability map of a day: which instruments could be traded, and what the lake holds of them.

Two kinds of columns are kept apart: what was known at the day's 00:00 UTC (the listing), and what only the day itself
could tell (observed).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from market_data_pipeline.model.contracts import Contract
from market_data_pipeline.model.datasets import DATASETS, LISTING_SCHEMA, Kind
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.windows import DAY, microseconds, midnight

SCHEMA = DATASETS["available_instruments"].own_schema


@dataclass(frozen=True)
class Observed:
    """What the lake holds of one instrument and dataset for a day.

    Attributes:
        dataset: the dataset's name.
        rows: rows in its day file.
        first: the earliest time.
        last: the latest.
        gaps: buckets of the day without a row: minutes for ticks, the timeframe's own for candles.
        lawful: whether every row keeps the laws.
    """

    dataset: str
    rows: int
    first: datetime | None
    last: datetime | None
    gaps: int
    lawful: bool


def buckets_of(stamps: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    """The distinct buckets, numbered from 1970, that some times fall into; both in microseconds."""
    return np.unique(stamps // length)


def empty_buckets(filled: Iterable[npt.NDArray[np.int64]], day: date, length: int) -> int:
    """How many buckets of a day are in none of these sets of buckets (from `buckets_of`)."""
    first, end = microseconds(midnight(day)) // length, microseconds(midnight(day) + DAY) // length
    seen = np.zeros(end - first, bool)
    for buckets in filled:
        seen[buckets[(buckets >= first) & (buckets < end)] - first] = True
    return int(len(seen) - seen.sum())


def proven_by_ticks(instruments: Sequence[Instrument], contract_of: Mapping[Instrument, Contract]) -> pa.Table:
    """Listing rows of instruments that no master tells of: what their ids and contracts say, and nothing else."""
    rows = []
    for instrument in instruments:
        contract = contract_of[instrument]
        rows.append(
            {
                "instrument_id": instrument.id,
                "venue": instrument.venue,
                "instrument_type": instrument.type.folder,
                "base_asset": instrument.base,
                "quote_asset": instrument.quote,
                "strike": None if instrument.strike is None else float(instrument.strike),
                "option_type": instrument.option_type,
                "expiry": instrument.expiry and midnight(instrument.expiry),
                "contract_multiplier": contract.multiplier,
                "inverse": contract.inverse,
                # the hour is not known, and on its last day it can still be traded
                "available_to": instrument.expiry and midnight(instrument.expiry) + DAY,
                "known_from": "ticks",
            }
        )
    return pa.Table.from_pylist(rows, LISTING_SCHEMA)


def availability(listing: pa.Table, observed: Mapping[str, Sequence[Observed]]) -> pa.Table:
    """The map of a day.

    Args:
        listing: rows of LISTING_COLUMNS, each instrument once.
        observed: what the lake holds, by instrument id.

    Returns:
        The dataset's own columns, in order of instrument_id.
    """
    rows = sorted(listing.to_pylist(), key=lambda row: row["instrument_id"])
    return pa.Table.from_pylist([row | _observed(observed.get(row["instrument_id"], ())) for row in rows], SCHEMA)


def _observed(found: Sequence[Observed]) -> dict[str, object]:
    kinds = {each.dataset: DATASETS[each.dataset] for each in found}
    ticks = [each for each in found if kinds[each.dataset].kind is Kind.TICKS]
    candles = [each for each in found if kinds[each.dataset].kind is Kind.CANDLES]
    return {
        "observed_data_types": [each.dataset for each in ticks],
        "observed_timeframes": [frame.name for each in candles if (frame := kinds[each.dataset].timeframe)],
        "observed": [
            {
                "dataset": each.dataset,
                "rows": each.rows,
                "first_timestamp": each.first,
                "last_timestamp": each.last,
                "gaps": each.gaps,
            }
            for each in found
        ],
        "ticks_lawful": all(each.lawful for each in ticks) if ticks else None,
        "candles_lawful": all(each.lawful for each in candles) if candles else None,
    }
