"""What every source must hold to. A source's test module subclasses `SourceContract` and says what it has."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pyarrow as pa
import pytest

from market_data_pipeline.model.contracts import Contract
from market_data_pipeline.model.datasets import DATASETS, LISTING_SCHEMA, Kind
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.sources.contract import Source, WatchedSource


def read(file: DayRows) -> tuple[pa.Table, Rejects]:
    """All rows of a file, and what was set aside."""
    rejects = Rejects()
    batches = list(file.read(rejects))
    return pa.Table.from_batches(batches, batches[0].schema if batches else None), rejects


class SourceContract:
    """Subclass it, define the fixture `source` and the days; the source must have at least two instruments that day.

    `everything` is for a source that does not take all instruments at once.
    """

    data_type = "trades"
    day: date
    empty_day: date
    everything = Selection()
    told_ahead = True
    """Whether the source knows, before it is read, that it has something of the day."""

    @pytest.fixture
    def source(self) -> Source:
        raise NotImplementedError

    @pytest.fixture
    def files(self, source: Source) -> list[DayRows]:
        return list(source.files(self.data_type, self.day, self.everything))

    def test_says_what_it_is(self, source):
        assert source.name == source.name.lower() != ""
        assert self.data_type in source.data_types
        assert all(DATASETS[name].kind is Kind.TICKS for name in source.data_types)
        assert source.describe(self.data_type).strip()
        assert "\n" not in source.describe(self.data_type)

    def test_every_batch_has_the_datasets_own_schema(self, files):
        for file in files:
            for batch in file.read(Rejects()):
                assert batch.schema.equals(DATASETS[self.data_type].own_schema, check_metadata=True)
                assert batch.num_rows
                batch.validate(full=True)

    def test_rows_have_a_time_a_price_and_a_side(self, files):
        for file in files:
            rows, _ = read(file)
            assert rows.num_rows
            assert rows["timestamp"].null_count == rows["local_timestamp"].null_count == 0
            if self.data_type == "trades":
                assert set(rows["side"].to_pylist()) <= {"buy", "sell", "unknown"}
                assert all(value > 0 for value in rows["price"].to_pylist() + rows["amount"].to_pylist())

    def test_each_instrument_comes_once_and_for_the_day(self, files):
        assert len(files) >= 2
        assert len({file.instrument for file in files}) == len(files)
        assert all(file.day == self.day and file.origin for file in files)

    def test_reading_twice_gives_the_same(self, source, files):
        again = list(source.files(self.data_type, self.day, self.everything))
        assert [file.instrument for file in again] == [file.instrument for file in files]
        for first, second in zip(files, again, strict=True):
            assert read(first) == read(first) == read(second)

    def test_two_threads_read_the_same(self, files):
        with ThreadPoolExecutor(4) as pool:
            twice = list(pool.map(read, [*files, *files]))
        assert twice[: len(files)] == twice[len(files) :] == [read(file) for file in files]

    def test_a_reader_may_stop_early(self, files):
        for file in files:
            assert next(iter(file.read(Rejects()))).num_rows
            assert read(file)[0].num_rows

    def test_a_selection_is_kept_to(self, source, files):
        wanted = files[-1].instrument
        for selection in (Selection.of(wanted), Selection.of(f"{wanted.id[:-1]}?".lower())):
            found = [file.instrument for file in source.files(self.data_type, self.day, selection)]
            assert wanted in found
            assert all(instrument in selection for instrument in found)
        assert list(source.files(self.data_type, self.day, Selection.of("nowhere:SPOT_PAIR:NO-NE"))) == []

    def test_an_unknown_day_is_empty(self, source):
        assert list(source.files(self.data_type, self.empty_day, self.everything)) == []

    def test_tells_the_days_that_it_has(self, source):
        told = source.days_with(self.data_type, [self.empty_day, self.day], self.everything)
        assert told <= {self.empty_day, self.day}
        assert (self.day in told) is self.told_ahead
        assert source.days_with("no_such_type", [self.day], self.everything) == set()
        assert source.days_with(self.data_type, [], self.everything) == set()

    def test_every_instrument_has_a_contract(self, source, files):
        assert all(isinstance(source.contract(file.instrument), Contract) for file in files)

    def test_listings_have_the_declared_schema_where_there_is_a_master(self, source):
        listings = source.listings(self.day, self.everything)
        assert (listings is not None) is source.has_listings
        assert listings is None or listings.schema.equals(LISTING_SCHEMA)

    def test_a_watched_source_tells_the_state_of_the_days_that_it_has(self, source):
        if isinstance(source, WatchedSource):
            states = source.states(self.data_type, [self.empty_day, self.day], self.everything)
            assert list(states) == [self.day]
            assert states == source.states(self.data_type, [self.day], self.everything)
