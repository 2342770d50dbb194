"""Runs of the pipeline for tests: through Dagster, into an instance in memory; and a small source one can steer."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa

from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.defs.launch import Outcome, launch, selected_assets
from market_data_pipeline.model.contracts import LINEAR, Contract
from market_data_pipeline.model.datasets import DATASETS, TIME
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.model.windows import as_day, microseconds, midnight
from market_data_pipeline.settings import Settings
from market_data_pipeline.sources.contract import Source

TRADES = DATASETS["trades"]


@dataclass
class SmallSource:
    """A few trades a day for some instruments; some of them lie in the file of a neighbouring day."""

    instruments: Sequence[Instrument]
    trades: int = 40
    name: str = "small"
    data_types: tuple[str, ...] = ("trades",)
    has_listings: bool = False
    venues: frozenset[str] | None = None
    salt: dict[tuple[date, Instrument], int] = field(default_factory=dict)

    def files(self, data_type: str, day: date, selection: Selection) -> Iterator[DayRows]:
        for instrument in self.instruments:
            if instrument in selection:
                yield DayRows(day, instrument, f"small/{instrument}", partial(self._read, day, instrument))

    def _read(self, day: date, instrument: Instrument, _: Rejects) -> Iterator[pa.RecordBatch]:
        seed = [day.toordinal(), len(instrument.id), sum(instrument.id.encode()), self.salt.get((day, instrument), 0)]
        draw = np.random.default_rng(seed)
        # the first and the last seconds of a file belong to the days beside it
        millis = np.sort(draw.integers(-2_000, 86_402_000, self.trades))
        millis[0], millis[-1] = -500, 86_400_500
        stamps = millis * 1000 + microseconds(midnight(day))
        columns = {
            "timestamp": pa.array(stamps).view(TIME),
            "local_timestamp": pa.array(stamps).view(TIME),
            "id": pa.array([f"{day}-{number}" for number in range(self.trades)]),
            "side": pa.DictionaryArray.from_arrays(
                pa.array(draw.integers(0, 2, self.trades, dtype=np.int32)), ["buy", "sell"]
            ),
            "price": pa.array(np.round(100 + draw.normal(0, 1, self.trades).cumsum(), 2)),
            "amount": pa.array(draw.integers(1, 100, self.trades) / 100),
        }
        yield pa.RecordBatch.from_arrays([columns[name] for name in TRADES.own_schema.names], schema=TRADES.own_schema)

    def days_with(self, data_type: str, days: Iterable[date], selection: Selection) -> set[date]:
        return set(days) if data_type in self.data_types else set()

    def describe(self, data_type: str) -> str:
        return "small holds every day"

    def contract(self, instrument: Instrument) -> Contract:
        return LINEAR

    def listings(self, day: date, selection: Selection) -> pa.Table | None:
        return None


@dataclass(frozen=True)
class Pipeline:
    """The pipeline with an instance of its own."""

    defs: dg.Definitions
    instance: dg.DagsterInstance

    def run(self, first: date | str, last: date | str | None = None, assets: Sequence[str] = ()) -> Outcome:
        """Materializes a day or a range, all assets by default."""
        start, end = as_day(first), as_day(last if last is not None else first)
        return launch(self.defs, self.instance, start, end, selected_assets(self.defs, assets))

    def metadata(self, asset: str, day: date | str) -> dict[str, Any]:
        """The metadata of the newest materialization of a partition."""
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[str(day)]), limit=1
        ).records
        assert records, f"{asset} on {day} was never materialized"
        materialization = records[0].asset_materialization
        assert materialization is not None
        return {name: value.value for name, value in materialization.metadata.items()}


@contextmanager
def pipeline(settings: Settings, source: Source | None = None) -> Iterator[Pipeline]:
    """A pipeline for some settings."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield Pipeline(build_definitions(settings, source), instance)


@contextmanager
def pipeline_that_ran(settings: Settings, days: Sequence[date]) -> Iterator[Pipeline]:
    """A pipeline that has materialized all from the first of some days to the last."""
    with pipeline(settings) as running:
        outcome = running.run(days[0], days[-1])
        assert outcome.clean, outcome.problems
        yield running
