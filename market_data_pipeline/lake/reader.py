"""Reading the lake: ticks, candles, features and the availability map as Arrow tables.

For each question the reader takes the layout that touches the fewest objects, reads only the row groups and columns
that are needed, and makes the partition columns from the path instead of decoding them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.lake.asked import (
    Instruments,
    by_instrument,
    columns_of,
    instrument_of,
    narrowed,
    one_table,
    question_of,
)
from market_data_pipeline.lake.catalog import day_objects
from market_data_pipeline.lake.covered import covered
from market_data_pipeline.lake.fingerprints import fingerprint
from market_data_pipeline.lake.parquet import read_columns
from market_data_pipeline.lake.plans import Question, best_layout, pieces, read_piece
from market_data_pipeline.lake.quarantine import stored_rejects
from market_data_pipeline.lake.remembered import reopened
from market_data_pipeline.lake.rereading import whole
from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.stores.parallel import parallel
from market_data_pipeline.lake.ticks import TickSeries
from market_data_pipeline.lake.wide import wide
from market_data_pipeline.model.datasets import (
    DATASETS,
    LISTING_COLUMNS,
    OBSERVED_COLUMNS,
    QUARANTINE,
    Dataset,
    Kind,
    candles,
)
from market_data_pipeline.model.datasets import dataset as dataset_named
from market_data_pipeline.model.errors import ObjectNotFound
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.windows import DAY, Moment, Window, as_day

_AVAILABILITY = DATASETS["available_instruments"]
_LISTING = ["date", *(column.name for column in LISTING_COLUMNS)]
_OBSERVED = [column.name for column in OBSERVED_COLUMNS]
_THREADS = 8
_OPEN_DAYS = timedelta(days=31)


class MarketDataLake:
    """A market-data lake to read from.

    Times are UTC. `start` and `end` are dates, datetimes or ISO texts, the window is `[start, end)`, and a date as
    `end` means its midnight. Rows come in order of (instrument_id, timestamp). Nothing stored for a window gives an
    empty table with the right columns; `coverage` tells what is there.

        lake = MarketDataLake("data")
        lake.candles("binance:SPOT_PAIR:BTC-USDT", "1h", "2024-08-01", "2024-09-01").to_pandas()

    Args:
        url: the lake's folder, `gs://bucket[/prefix]`, or `gs://` where each root is a bucket of its own.
        buckets: with `gs://`, other names for the buckets, by root (`market-data-tick`, …).
        store: an opened store, instead of `url`.

    Raises:
        SettingError: the address is of no known kind.
    """

    def __init__(
        self,
        url: str | Path = "data",
        *,
        buckets: Mapping[str, str] | None = None,
        store: ObjectStore | None = None,
    ) -> None:
        self._store = store if store is not None else open_store(url, buckets)

    def __repr__(self) -> str:
        return f"MarketDataLake({self._store.uri!r})"

    @property
    def store(self) -> ObjectStore:
        """Where the lake's objects are."""
        return self._store

    def ticks(
        self,
        instruments: Instruments,
        data_type: str,
        start: Moment,
        end: Moment,
        *,
        venue: str | None = None,
        instrument_type: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Ticks whose exchange time lies in the window, also those that a vendor filed under a neighbouring day.

        Args:
            instruments: an id, a glob, a list of them, or None for all.
            data_type: `trades`, `book_snapshot_5`, …
            start: first time.
            end: end of the window, not included.
            venue: only this venue.
            instrument_type: only this type: spot, perpetual, future or option.
            columns: which columns, in this order; all by default. `date` is the day whose file held the row.

        Returns:
            A table in the dataset's schema, in order of (instrument_id, timestamp); ties as the vendor had them.

        Raises:
            InstrumentError, DatasetError, WindowError: the question cannot be understood.
            LakeError: a file of the lake cannot be read.
        """
        asked = dataset_named(data_type, Kind.TICKS)
        names = columns_of(asked, columns)
        question = question_of(asked, instruments, start, end, venue, instrument_type)

        @whole
        def read(instrument: Instrument) -> list[pa.Table]:
            window = question.window
            return list(self.stream_ticks(instrument, data_type, window.start, window.end, columns=names))

        return one_table(asked, names, chain.from_iterable(parallel(read, self._tick_instruments(question), _THREADS)))

    def stream_ticks(
        self,
        instrument: str | Instrument,
        data_type: str,
        start: Moment,
        end: Moment,
        *,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.Table]:
        """One instrument's ticks as `ticks` gives them, but in pieces that follow one another, in bounded memory.

        Raises:
            ObjectChanged: another run replaced a file when some of its rows may have been given already, and the store
                (Google Cloud Storage) keeps no replaced files: begin anew.
        """
        asked = dataset_named(data_type, Kind.TICKS)
        names = columns_of(asked, columns)
        one = instrument_of(instrument)
        # a bounded number of files is open at a time
        for window in Window.of(start, end).parts(_OPEN_DAYS):
            with TickSeries(self._store, asked, one, window.days(beside=1)) as series:
                yield from series.read(window, names)

    def tick_windows(
        self,
        instrument: str | Instrument,
        data_type: str,
        windows: Iterable[tuple[Moment, Moment]],
        *,
        columns: Sequence[str] | None = None,
    ) -> list[pa.Table]:
        """One instrument's ticks of many windows, such as the minutes around events: a table for each, in their order.

        A file is opened, and a row group decoded, once for all windows that touch it.

            opened = [datetime(2024, 8, day, 13, 30) for day in range(5, 10)]
            lake.tick_windows(perpetual, "trades", [(at, at + timedelta(minutes=1)) for at in opened])

        Args:
            instrument: whose ticks.
            data_type: `trades`, `book_snapshot_5`, …
            windows: (start, end) of each; they may lie in any order, and cross.
            columns: as of `ticks`.

        Returns:
            Tables as `ticks` gives them; a window without ticks has one without rows.

        Raises:
            InstrumentError, DatasetError, WindowError: the question cannot be understood.
            LakeError: a file of the lake cannot be read.
        """
        asked = dataset_named(data_type, Kind.TICKS)
        names = columns_of(asked, columns)
        one = instrument_of(instrument)
        wanted = [Window.of(start, end) for start, end in windows]
        found: list[list[pa.Table]] = [[] for _ in wanted]

        @whole
        def read(span: Window) -> list[list[pa.Table]]:
            inside = [window.within(span) for window in wanted]
            days = sorted({day for window in inside for day in window.days(beside=1)})
            with TickSeries(self._store, asked, one, days) as series:
                return series.read_windows(inside, names)

        if wanted:
            hull = Window(min(window.start for window in wanted), max(window.end for window in wanted))
            for span in hull.parts(_OPEN_DAYS):
                for tables, more in zip(found, read(span), strict=True):
                    tables.extend(more)
        return [one_table(asked, names, tables) for tables in found]

    def _tick_instruments(self, question: Question) -> list[Instrument]:
        if question.exact is not None:
            return question.exact
        found: set[Instrument] = set()
        known = {"day", *question.narrowed}
        # of the layouts with the same files, the one whose folders narrow the listing most
        layout = max(
            (each for each in question.dataset.day_layouts if set(each.group_fields) - {"instrument_id"} <= known),
            key=lambda each: len(each.group_fields),
        )
        for day in question.window.days(beside=1):
            for each in day_objects(self._store, question.dataset, day, layout, **question.narrowed):
                if each.instrument and question.wants(each.instrument):
                    found.add(each.instrument)
        return sorted(found)

    def candles(
        self,
        instruments: Instruments,
        timeframe: str,
        start: Moment,
        end: Moment,
        *,
        venue: str | None = None,
        instrument_type: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Candles whose open lies in the window; `timeframe` is `1m`, `1h`, … Else as `ticks`."""
        return self._rows(candles(timeframe), instruments, start, end, venue, instrument_type, columns)

    def features(
        self,
        instruments: Instruments,
        dataset: str,
        start: Moment,
        end: Moment,
        *,
        timeframe: str | None = None,
        venue: str | None = None,
        instrument_type: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Features or signals (`technical_features`, …) of candles whose open lies in the window. Else as `ticks`."""
        asked = dataset_named(dataset, Kind.FEATURES)
        if timeframe is None:
            return self._rows(asked, instruments, start, end, venue, instrument_type, columns)
        names = columns_of(asked, columns)
        candles(timeframe)  # refuses what is no timeframe
        rows = self._rows(
            asked, instruments, start, end, venue, instrument_type, [*dict.fromkeys([*names, "timeframe"])]
        )
        return rows.filter(pc.equal(rows.column("timeframe").cast(pa.string()), timeframe)).select(names)

    def panel(
        self,
        field: str,
        instruments: Instruments,
        timeframe: str,
        start: Moment,
        end: Moment,
        *,
        dataset: str | None = None,
        venue: str | None = None,
        instrument_type: str | None = None,
    ) -> pa.Table:
        """One value of many instruments side by side, such as all closes: what a cross-sectional backtest begins with.

            lake.panel("close", "binance:*", "1h", "2024-08-01", "2024-09-01").to_pandas().set_index("timestamp")

        Args:
            field: a column of the candles, or of the features if `dataset` names some.
            instruments: an id, a glob, a list of them, or None for all.
            timeframe: `1m`, `1h`, …
            start: first time.
            end: end of the window, not included.
            dataset: features or signals (`technical_features`, …) instead of candles.
            venue: only this venue.
            instrument_type: only this type: spot, perpetual, future or option.

        Returns:
            A table of `timestamp` (the candles' opens, UTC, rising) and a column for each instrument that has rows in
            the window, named by its id, in order of the ids; null where it has none at that time. A value is known at
            the candle's end, not at its open.

        Raises:
            InstrumentError, DatasetError, WindowError: the question cannot be understood.
            LakeError: a file of the lake cannot be read.
        """
        names = [*dict.fromkeys(["timestamp", "instrument_id", field])]
        read = (
            partial(self.candles, instruments, timeframe)
            if dataset is None
            else partial(self.features, instruments, dataset, timeframe=timeframe)
        )
        return wide(read(start, end, venue=venue, instrument_type=instrument_type, columns=names), field)

    def _rows(
        self,
        asked: Dataset,
        instruments: Instruments,
        start: Moment,
        end: Moment,
        venue: str | None,
        instrument_type: str | None,
        columns: Sequence[str] | None,
    ) -> pa.Table:
        names = columns_of(asked, columns)
        question = question_of(asked, instruments, start, end, venue, instrument_type)
        layout = best_layout(question)
        found = pieces(self._store, question, layout)
        read = partial(read_piece, self._store, question, columns=names)
        tables = chain.from_iterable(parallel(read, found, _THREADS))
        if layout.per_instrument:
            return one_table(asked, names, tables)
        grouped = one_table(asked, [*dict.fromkeys([*names, "instrument_id"])], tables)
        return by_instrument(grouped).select(names)

    def available_instruments(
        self,
        date: date | str,
        *,
        venue: str | None = None,
        instrument_type: str | None = None,
        observed: bool = False,
    ) -> pa.Table:
        """The instruments that could be traded on a date, one row each, in order of their ids.

        Args:
            date: the day, UTC.
            venue: only this venue.
            instrument_type: only this type: spot, perpetual, future or option.
            observed: give the columns that are known only after the day, too: leave them out of a backtest's universe.

        Raises:
            WindowError, InstrumentError: the question cannot be understood.
            LakeError: the map cannot be read.
        """
        names = [*_LISTING, *_OBSERVED] if observed else _LISTING
        rows = self._map(as_day(date), names)
        for name, value in narrowed(venue, instrument_type).items():
            rows = rows.filter(pc.equal(rows.column(name).cast(pa.string()), value))
        return rows.select(names)

    def universe(
        self,
        start: Moment,
        end: Moment,
        *,
        instruments: Instruments = None,
        venue: str | None = None,
        instrument_type: str | None = None,
        observed: bool = False,
    ) -> pa.Table:
        """Who was listed when: the instruments that could be traded on each date that a window touches.

        Each date has those that were known at its 00:00 UTC, the ones that are gone by now among them. A date without
        a stored map has no rows: `coverage("available_instruments", …)` tells which are stored.

            listed = lake.universe("2024-08-01", "2024-09-01", venue="binance")

        Args:
            start: first time; the whole of its date is meant.
            end: end of the window: a date that it only touches at its midnight is not included.
            instruments: an id, a glob, a list of them, or None for all.
            venue: only this venue.
            instrument_type: only this type: spot, perpetual, future or option.
            observed: as of `available_instruments`: what is known only after the day.

        Returns:
            A row for each date and instrument, in order of (date, instrument_id), with the columns of
            `available_instruments`.

        Raises:
            WindowError, InstrumentError: the question cannot be understood.
            LakeError: the map cannot be read.
        """
        names = [*_LISTING, *_OBSERVED] if observed else _LISTING
        days = list(Window.of(start, end).days())
        if not days:
            return one_table(_AVAILABILITY, names, [])
        rows = self._rows(_AVAILABILITY, instruments, days[0], days[-1] + DAY, venue, instrument_type, names)
        at = np.asarray(rows.column("date").combine_chunks().view(pa.int32()))
        return rows.take(pa.array(np.argsort(at, kind="stable")))

    def quarantine(
        self,
        start: Moment,
        end: Moment,
        *,
        data_type: str | None = None,
        instruments: Instruments = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Rows of the source's files that were set aside, with file, line and reason, by the day of their files.

        Args:
            start: first day.
            end: end of the window: a day that it only touches at its midnight is not included.
            data_type: `trades`, `book_snapshot_5`, …; all by default.
            instruments: an id, a glob, a list of them, or None for all.
            columns: which columns, in this order; all by default.

        Returns:
            A table in order of (data_type, date, instrument_id, line). `reason_rows` says how many rows the file has
            with this reason; the first 1,000 of them are kept.

        Raises:
            InstrumentError, DatasetError, WindowError: the question cannot be understood.
            LakeError: a file cannot be read.
        """
        asked = (
            [QUARANTINE[dataset_named(data_type, Kind.TICKS).name]] if data_type is not None else QUARANTINE.values()
        )
        first = next(iter(QUARANTINE.values()))
        names, selection = columns_of(first, columns), Selection.of(instruments)
        days = list(Window.of(start, end).days())
        tables = chain.from_iterable(stored_rejects(self._store, each, days, selection) for each in asked)
        return one_table(first, names, tables)

    def sql(self, query: str, *, start: Moment | None = None, end: Moment | None = None) -> pa.Table:
        """What a query in DuckDB's SQL says of the lake, in which every dataset is a table of its name.

            lake.sql("select venue, sum(amount) from trades where date >= '2024-08-08' group by venue").to_pandas()

        A dataset has the columns that the reader gives; one of which nothing is stored has no rows. Conditions on
        `date`, `venue`, `instrument_id` and the other partition columns leave out files by their paths; with one on
        `timestamp` alone each file is opened. Candles, features and the map lie in month files, too: the same rows are
        in `by_venue.ohlcv_1h` and so on, by the names of the layouts, where a query of whole months opens fewer files.
        DuckDB does not compare pages with their checksums as the reader does; `market-data verify --full` finds damage.

        Args:
            query: one `select` (or `explain`). It only reads, and nothing but the lake.
            start: first time; tables hold the rows that the reader gives of the window. Open by default.
            end: end of the window, not included; with both, within 10,000 days, other days are not even listed.
                Datasets without times have the dates that the window touches.

        Returns:
            The rows, in the order that the query asks for; times are UTC, texts are not dictionary-encoded. Of columns
            of one name the second ends in `_1`.

        Raises:
            QueryError: the query cannot be understood or run, or would do more than read.
            DatasetError: it names a table that is none; the message names the datasets.
            WindowError: start or end cannot be understood.
            LakeError: a file of the lake cannot be read.
        """
        # DuckDB is loaded by those who ask in SQL
        from market_data_pipeline.lake.sql import answer

        return answer(self._store, query, start, end)

    @whole
    def _map(self, day: date, names: Sequence[str]) -> pa.Table:
        key = _AVAILABILITY.path(_AVAILABILITY.layouts[0], day)
        try:
            with reopened(self._store, key) as file:
                return read_columns(file, names)
        except ObjectNotFound:
            return _AVAILABILITY.schema.empty_table()

    def coverage(self, dataset: str, start: Moment, end: Moment, *, instruments: Instruments = None) -> pa.Table:
        """What is stored of a dataset, for each day that a window touches and each instrument.

        An instrument that is named, or that has rows on any of the days, has a row for every day; a day without its
        file has 0 rows and null times.

        Returns:
            A table with date, instrument_id (null for a dataset whose day file holds all), rows, bytes (of one copy),
            first_timestamp, last_timestamp; in order of (date, instrument_id).

        Raises:
            DatasetError, InstrumentError, WindowError: the question cannot be understood.
            LakeError: a file cannot be read.
        """
        return covered(self._store, question_of(dataset_named(dataset), instruments, start, end))

    def fingerprint(
        self,
        dataset: str,
        start: Moment,
        end: Moment,
        *,
        instruments: Instruments = None,
        venue: str | None = None,
        instrument_type: str | None = None,
    ) -> str:
        """Stands for the data that a read of the window is made from, so that a backtest can say on which it ran.

        It covers the whole day files of the days that the window touches and, of ticks, of the days beside them, which
        may hold rows of the window. Any of these that changes, comes or goes changes it; other files do not. The same
        data give the same text on a local disk and on Google Cloud Storage. No content is read.

        Args:
            dataset: `trades`, `ohlcv_1h`, `technical_features`, …
            start: first time.
            end: end of the window, not included.
            instruments: an id, a glob, a list of them, or None for all.
            venue: only this venue.
            instrument_type: only this type: spot, perpetual, future or option.

        Returns:
            32 hexadecimal digits.

        Raises:
            DatasetError, InstrumentError, WindowError: the question cannot be understood.
            LakeError: a file is not as recorded; the message says what to do.
        """
        asked = dataset_named(dataset)
        question = question_of(asked, instruments, start, end, venue, instrument_type)
        days = question.window.days(beside=1 if asked.kind is Kind.TICKS else 0)
        return fingerprint(self._store, asked, days, question.wants)
