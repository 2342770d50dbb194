"""Taking in day files that lie in `by_date` already, written by another tool.

Each is looked through first; then its rows are written anew, so that columns, encodings, the other layouts and the
record become the lake's own. A file that is what the lake would have written stays as it is. Other runs may write
meanwhile: a file is replaced only as long as it is the one that was looked through, and nothing is ever taken away.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from market_data_pipeline.lake.catalog import DayObject, day_objects, stored_fields
from market_data_pipeline.lake.day_files import THREADS, DayFile, Failure
from market_data_pipeline.lake.differences import Difference, Kind
from market_data_pipeline.lake.encoding import write_day_file
from market_data_pipeline.lake.ordering import in_order, times
from market_data_pipeline.lake.parquet import Span, explained, opened, parquet_file, span_of
from market_data_pipeline.lake.records import version
from market_data_pipeline.lake.splicing import ADVICE, month_digests
from market_data_pipeline.lake.stores.content import crc32c_of
from market_data_pipeline.lake.stores.contract import ObjectStore, Pinned
from market_data_pipeline.lake.survey import Survey
from market_data_pipeline.lake.verified import verify_days
from market_data_pipeline.lake.verified_days import DayFiles, content_crc32c, copy_differences, list_days
from market_data_pipeline.lake.writer import WriteReport, follow, known_files
from market_data_pipeline.model.datasets import TIME, Dataset
from market_data_pipeline.model.datasets import Kind as DatasetKind
from market_data_pipeline.model.errors import LakeError, ObjectChanged, ObjectNotFound
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.model.windows import by_month, days_between
from market_data_pipeline.transforms.laws import broken_candle_laws, broken_tick_laws

_BATCH = 65_536


@dataclass(frozen=True)
class Adopted:
    """What became of a dataset's days.

    Attributes:
        report: what was written, as of any run; None where no day was fit to be taken in.
        days: the days that were taken in and verified.
        problems: why the others were not, each with what to do.
    """

    report: WriteReport | None
    days: tuple[date, ...]
    problems: tuple[str, ...]


def adopt(store: ObjectStore, dataset: Dataset, first: date, last: date) -> Adopted:
    """Takes in the day files of `by_date` from `first` to `last` (UTC, included); days without one are passed over.

    A day is taken in only if all its files can be: names that are the lake's, the dataset's own columns in types that
    hold the same values, partition columns (where there are any) that say what the path says, rows in order of time
    and near their day. Nothing of another day is touched.

    Raises:
        LakeError: the lake cannot be listed or written.
    """
    survey = Survey()
    strays = list(survey.walk(store, [dataset], first, last))
    problems = [str(stray) for stray in strays]
    good: dict[date, list[DayObject]] = {}
    for days in by_month(days_between(first, last)):
        foreign = list(_foreign_months(store, dataset, days[0]))
        for day in days:
            found = list(day_objects(store, dataset, day))
            if not found and not _beside(strays, dataset, day):
                continue
            wrong = [
                *foreign,
                *_only_elsewhere(store, dataset, day, survey),
                *(problem for each in found for problem in _problems(store, dataset, each)),
            ]
            problems += [problem for problem in wrong if problem not in problems]
            if found and not wrong and not _beside(strays, dataset, day):
                good[day] = found
    if not good:
        return Adopted(None, (), tuple(problems))
    report = _take_in(store, dataset, good)
    failed = {failure.day for failure in report.failures}
    left = [each for days in by_month(good) for each in verify_days(store, dataset, days)]
    problems += [*map(str, report.failures), *map(str, left)]
    months = {each.key for each in left if each.day is None}
    wrong_days = failed | {each.day for each in left} | (set(good) if months else set())
    return Adopted(report, tuple(day for day in good if day not in wrong_days), tuple(problems))


def _take_in(store: ObjectStore, dataset: Dataset, good: Mapping[date, Sequence[DayObject]]) -> WriteReport:
    """Writes the files of some days as the lake writes them, and what follows from them."""
    store.sweep()
    before, days = store.bytes_written, list(good)
    found = [each for of_day in good.values() for each in of_day]
    with ThreadPoolExecutor(THREADS, "adopt") as pool:
        done = list(pool.map(partial(_take_one, store, dataset), found))
    files = tuple(each for each in done if isinstance(each, DayFile))
    _, lost = known_files(store, dataset, days)
    months = follow(store, dataset, days, files, lost=lost)
    return WriteReport(
        dataset,
        tuple(days),
        Selection.of(sorted({each.instrument for each in found if each.instrument}) or None),
        files,
        tuple(each for each in done if isinstance(each, Failure)),
        (),
        tuple(months),
        store.bytes_written - before,
    )


def _take_one(store: ObjectStore, dataset: Dataset, found: DayObject) -> DayFile | Failure:
    """Puts one file into every layout as the lake writes it, unless it is no longer the one that was listed."""
    uri, place = store.uri_of(found.info.key), (found.day, found.instrument)
    try:
        with _as_listed(store, found) as pinned, store.stage() as path:
            span = write_day_file(path, dataset, *place, _own_batches(pinned, dataset, uri))
            with path.open("rb", buffering=0) as encoded:
                size, checksum = path.stat().st_size, crc32c_of(encoded)
            same = size == pinned.info.size and checksum == content_crc32c(pinned.file)
            others = [dataset.path(layout, *place) for layout in dataset.day_layouts[1:]]
            changed = not (same and all(_holds_bytes(store, key, size, checksum) for key in others))
            if changed:
                store.put(path, [found.info.key], expect=pinned, crc32c=checksum)
                if others:
                    store.put(path, others, crc32c=checksum)
            before = None if same else _span(pinned, dataset, uri)
            return DayFile(*place, uri, span, size, checksum, changed, Rejects(), before)
    except (ObjectChanged, ObjectNotFound):
        return Failure(*place, uri, f"{uri} was changed by another run meanwhile and stays so; adopt its day again")


@contextmanager
def _as_listed(store: ObjectStore, found: DayObject) -> Iterator[Pinned]:
    with store.open(found.info.key) as pinned:
        if version(pinned.info) != version(found.info):
            raise ObjectChanged(f"{store.uri_of(found.info.key)} was replaced since it was listed; adopt its day again")
        yield pinned


def _own_batches(pinned: Pinned, dataset: Dataset, uri: str) -> Iterator[pa.RecordBatch]:
    with explained(uri):
        for batch in parquet_file(pinned.file).iter_batches(_BATCH):
            yield from _own(pa.Table.from_batches([batch]), dataset).combine_chunks().to_batches()


def _holds_bytes(store: ObjectStore, key: str, size: int, checksum: int) -> bool:
    info = next(iter(store.list(key)), None)
    return info is not None and info.size == size and store.crc32c(info) == checksum


def _span(pinned: Pinned, dataset: Dataset, uri: str) -> Span | None:
    try:
        with explained(uri):
            return span_of(parquet_file(pinned.file).metadata, dataset)
    except LakeError:
        return None


def _beside(strays: Sequence[Difference], dataset: Dataset, day: date) -> bool:
    """Whether something that belongs to no layout lies among a day's files."""
    folder = dataset.layouts[0].prefix(day, **dataset.path_fields())
    return any(stray.key.startswith(folder) for stray in strays)


def _only_elsewhere(store: ObjectStore, dataset: Dataset, day: date, survey: Survey) -> Iterator[str]:
    files = DayFiles(dataset, (day,), list_days(store, dataset, [day]), None)
    for layout in dataset.day_layouts[1:]:
        for each in copy_differences(store, files, layout, survey.groups[dataset.name, layout.name], False):
            if each.kind is Kind.EXTRA:
                yield f"{each.uri}: by_date has no such file; move it there, or away"


def _foreign_months(store: ObjectStore, dataset: Dataset, day: date) -> Iterator[str]:
    """Month files that this lake has not put together: their rows would stand beside those of the day files."""
    for layout in dataset.month_layouts:
        for fields in stored_fields(store, dataset, layout):
            if layout.day_of(fields) == day.replace(day=1) and fields.get("dataset", dataset.name) == dataset.name:
                key = layout.format(day, **(dataset.path_fields() | fields))
                with opened(store, key, ADVICE) as file:
                    made_here = bool(month_digests(file.metadata))
                if not made_here:
                    yield f"{store.uri_of(key)}: this lake did not put it together; move it away, by_date makes it anew"


def _problems(store: ObjectStore, dataset: Dataset, found: DayObject) -> Iterator[str]:
    """Why a file cannot be taken in; nothing if it can."""
    uri = store.uri_of(found.info.key)
    try:
        with _as_listed(store, found) as pinned, explained(uri):
            file = parquet_file(pinned.file)
            wrong = [*_wrong_columns(file.schema_arrow, dataset)]
            if not file.metadata.num_rows:
                wrong.append("it holds no rows; delete it")
            if not wrong:
                wrong = list(_wrong_rows(file, dataset, found))
    except LakeError as error:
        yield str(error) if uri in str(error) else f"{uri}: {error}"
        return
    yield from (f"{uri}: {text}" for text in wrong)


def _wrong_columns(schema: pa.Schema, dataset: Dataset) -> Iterator[str]:
    for name in dict.fromkeys(schema.names):
        if name not in dataset.schema.names:
            yield f"column {name} is none of {dataset.name}'s; leave it out"
        elif schema.names.count(name) > 1:
            yield f"column {name} stands there {schema.names.count(name)} times; it should once"
    for field in dataset.schema:
        own, places = field.name in dataset.own_schema.names, schema.get_all_field_indices(field.name)
        if own and not places:
            yield f"column {field.name} is missing; it should be {field.type}"
        elif len(places) == 1 and not _holds(schema.field(places[0]).type, field.type, exactly=own):
            remedy = "" if own else ", or left out"
            yield f"column {field.name} is {schema.field(places[0]).type}; it should be {field.type}{remedy}"


def _holds(found: pa.DataType, wanted: pa.DataType, *, exactly: bool) -> bool:
    """Whether a type is another spelling of the wanted one; a time that is finer than microseconds is seen later."""
    if pa.types.is_integer(found) and pa.types.is_integer(wanted) and not exactly:
        return True
    if pa.types.is_timestamp(found) and wanted == TIME:
        return str(found.tz) in ("UTC", "Etc/UTC", "+00:00")
    return bool(_plain(found) == _plain(wanted))


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind


def _wrong_rows(file: pq.ParquetFile, dataset: Dataset, found: DayObject) -> Iterator[str]:
    expected = dataset.partition_values(found.day, found.instrument)
    last, at = None, 0
    for batch in file.iter_batches(_BATCH):
        table = pa.Table.from_batches([batch])
        for name in set(expected).intersection(table.column_names):
            told = set(pc.unique(table.column(name)).to_pylist())
            if told != {expected[name]}:
                yield f"column {name} says {', '.join(map(str, sorted(map(str, told))))}, its path {expected[name]}"
                return
        own = _own(table, dataset)
        if dataset.by_time:
            stamps = times(own)
            if not in_order(stamps) or (last is not None and stamps[0] < last):
                yield f"its rows from row {at:,} on are not in order of timestamp; sort them, ties as they are"
                return
            last = stamps[-1]
        laws = _broken(own, dataset, found.day)
        if laws:
            yield from laws
            return
        at += table.num_rows


def _broken(own: pa.Table, dataset: Dataset, day: date) -> list[str]:
    if dataset.kind is DatasetKind.TICKS:
        return broken_tick_laws(own, day)
    if dataset.timeframe:
        return broken_candle_laws(own, day, dataset.timeframe)
    return []


def _own(table: pa.Table, dataset: Dataset) -> pa.Table:
    """The dataset's own columns; raises ArrowInvalid where a value would be lost, LakeError where one is missing."""
    for field in dataset.own_schema:
        if not field.nullable and table.column(field.name).null_count:
            raise LakeError(f"column {field.name} has a null; it must have none")
    return table.select(dataset.own_schema.names).cast(dataset.own_schema)
