"""The lake as tables of BigQuery: the statements that make them, as texts. Nothing here talks to Google.

Each dataset is an external table over its day files, and one over each layout of month files. Folders such as `day-08`
are no keys that BigQuery could leave files out by, so table functions turn days into bounds of `_FILE_NAME`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from string import Formatter

import pyarrow as pa

from market_data_pipeline.lake.sql_tables import TABLES, StoredTable
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import DatasetError, SettingError
from market_data_pipeline.model.layouts import Layout

_PROJECT = re.compile(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_DATASET = re.compile(r"[A-Za-z0-9_]{1,1024}")
_CONNECTION = re.compile(rf"(?:{_PROJECT.pattern}\.)?[a-z0-9-]+\.[A-Za-z0-9_-]+")
_DATED = re.compile(r"(?P<before>.*/)(?P<dated>[^/{}]*\{year\}[^{}]*\{month\}(?:[^{}]*\{day\})?)(?P<after>/.*)")
_CODES = {"year": "%Y", "month": "%m", "day": "%d"}
_LONGEST = 1024  # characters of a column's description


@dataclass(frozen=True)
class Warehouse:
    """Where in BigQuery the tables are made.

    Attributes:
        project: the Google Cloud project.
        dataset: the dataset of BigQuery, which must be there, at the place of the lake's buckets.
        connection: `location.name` or `project.location.name` of the connection that reads the buckets for those who
            ask; empty where they have rights on the buckets themselves.

    Raises:
        SettingError: one of them can be no such name.
    """

    project: str
    dataset: str
    connection: str = ""

    def __post_init__(self) -> None:
        if not _PROJECT.fullmatch(self.project):
            raise SettingError(f"{self.project!r} is no project of Google Cloud; give its id, such as my-project")
        if not _DATASET.fullmatch(self.dataset):
            raise SettingError(f"{self.dataset!r} is no dataset of BigQuery: letters, digits and underscores")
        if self.connection and not _CONNECTION.fullmatch(self.connection):
            raise SettingError(
                f"{self.connection!r} is no connection of BigQuery; write it location.name, such as eu.market-data, or "
                "project.location.name"
            )

    @classmethod
    def of(cls, text: str, connection: str = "") -> "Warehouse":
        """That of `project.dataset`; raises SettingError."""
        project, dot, dataset = text.rpartition(".")
        if not dot:
            raise SettingError(f"{text!r} names no dataset of BigQuery; write it project.dataset")
        return cls(project, dataset, connection)

    def named(self, name: str) -> str:
        """A table or function in full, as a statement writes it."""
        return f"`{self.project}`.`{self.dataset}`.`{name}`"

    @property
    def connected(self) -> str:
        """The connection in full, as a statement writes it."""
        return f"`{self.connection if self.connection.count('.') > 1 else f'{self.project}.{self.connection}'}`"


def require_cloud(lake: str) -> None:
    """Raises SettingError where a lake's address is none that BigQuery can read."""
    if not lake.startswith("gs://"):
        raise SettingError(
            f"MARKET_DATA_LAKE is {lake!r}; BigQuery reads Google Cloud Storage alone: give gs://bucket[/prefix] or gs://"
        )


@dataclass(frozen=True)
class Statement:
    """A statement that makes a table or a table function, or replaces it.

    Attributes:
        name: what it makes.
        function: whether that is a table function.
        text: the statement in GoogleSQL, without a semicolon.
    """

    name: str
    function: bool
    text: str


def statements(
    warehouse: Warehouse, uri_of: Callable[[str], str], days: Mapping[str, Sequence[date]]
) -> Iterator[Statement]:
    """The statements for all tables of some datasets, each followed by those for its functions.

    A layout whose files one `*` in an address cannot tell from those of other datasets has no table; one whose paths do
    not hold year, month and day in a piece has no functions.

    Args:
        warehouse: where they are made.
        uri_of: the address of an object, from its key (`ObjectStore.uri_of`).
        days: for each dataset the days that lie there, rising; a dataset without any is left out, since an address that
            fits no object may be an error.
    """
    for table in TABLES.values():
        addresses = [_address(uri_of, key) for key in object_patterns(table, days.get(table.dataset.name, ()))]
        if addresses:
            yield _external_table(warehouse, table, addresses)
            yield from _functions(warehouse, table, uri_of)


def _address(uri_of: Callable[[str], str], key: str) -> str:
    """The address of a key, or of the beginning of one."""
    root, _, rest = key.partition("/")
    address = uri_of(f"{root}/x").removesuffix("x")
    if "*" in address:
        raise SettingError(f"{address} holds a *, of which BigQuery takes one in an address; the lake's must hold none")
    return address + rest


def table_name(table: StoredTable) -> str:
    """The dataset's name; of month files with that of the layout: `ohlcv_1m_by_venue`."""
    return table.dataset.name if table.layout.daily else f"{table.dataset.name}_{table.layout.name}"


def object_patterns(table: StoredTable, days: Iterable[date]) -> list[str]:
    """Keys with one `*`, which stands for anything, slashes as well; together they fit the table's files and no others.

    One does where what names the dataset stands at the end of a path, or before all that varies; where it stands in
    between, as in the paths of ticks, there is one for each day (or month) that lies there.
    """
    layout, told = table.layout, table.dataset.path_fields()
    periods = [day if layout.daily else day.replace(day=1) for day in days]
    if not periods:
        return []
    alone = _pattern(layout, told)
    if alone:
        return [alone]
    each = [_pattern(layout, {**told, **_time(day)}) for day in dict.fromkeys(periods)]
    return [pattern for pattern in each if pattern]


def _pattern(layout: Layout, told: Mapping[str, str]) -> str | None:
    """The template with values, and one `*` for all that has none; None where that would not tell the dataset."""
    open_ended = [name for name in _names(layout.template) if name not in told]
    if not open_ended:
        return layout.template.format_map(told)
    first, last = "{" + open_ended[0] + "}", "{" + open_ended[-1] + "}"
    before, between = layout.template.split(first, 1)
    after = between.rpartition(last)[2] if last in between else between
    outside = {*_names(before), *_names(after)}
    if not layout.placeholders & told.keys() <= outside:
        return None
    # `*` after a slash is what the documentation shows to reach into folders
    return f"{before.rpartition('/')[0]}/*{after}".format_map(told)


def _names(template: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


def _time(day: date) -> dict[str, str]:
    return {"year": f"{day:%Y}", "month": f"{day:%m}", "day": f"{day:%d}"}


def _external_table(warehouse: Warehouse, table: StoredTable, uris: Sequence[str]) -> Statement:
    name, dataset = table_name(table), table.dataset
    columns = ",\n".join(f"  {line}" for line in _columns(dataset))
    listed = ",\n".join(f"    {quoted(uri)}" for uri in uris)
    reading = f"WITH CONNECTION {warehouse.connected}\n" if warehouse.connection else ""
    held = "a day" if table.layout.daily else "a month"
    return Statement(
        name,
        False,
        f"CREATE OR REPLACE EXTERNAL TABLE {warehouse.named(name)} (\n{columns}\n)\n{reading}OPTIONS (\n"
        f"  description = {quoted(f'One row: {dataset.row}. A file holds {held}: ask {name}_between.')},\n"
        f"  format = 'PARQUET',\n  enable_list_inference = TRUE,\n  uris = [\n{listed}\n  ]\n)",
    )


def _columns(dataset: Dataset) -> Iterator[str]:
    """The columns in the order of the files, which is how BigQuery knows them as one table."""
    for column in (*dataset.columns, *dataset.partition_columns):
        unit = f" ({column.unit})" if column.unit else ""
        meaning = f"{column.meaning}{unit}"[:_LONGEST]
        yield f"`{column.name}` {column_type(column.type)} OPTIONS (description = {quoted(meaning)})"


def column_type(arrow: pa.DataType) -> str:
    """BigQuery's type for an Arrow type as this lake writes it; raises DatasetError where there is none."""
    if pa.types.is_dictionary(arrow):
        return column_type(arrow.value_type)
    if pa.types.is_list(arrow):
        return f"ARRAY<{column_type(arrow.value_type)}>"
    if pa.types.is_struct(arrow):
        return f"STRUCT<{', '.join(f'`{field.name}` {column_type(field.type)}' for field in arrow)}>"
    if pa.types.is_signed_integer(arrow):
        return "INT64"
    if arrow not in _TYPES:
        raise DatasetError(
            f"BigQuery has no type for a column of {arrow}; declare one of {', '.join(map(str, _TYPES))}"
        )
    return _TYPES[arrow]


_TYPES = {
    pa.timestamp("us", tz="UTC"): "TIMESTAMP",
    pa.date32(): "DATE",
    pa.float64(): "FLOAT64",
    pa.string(): "STRING",
    pa.bool_(): "BOOL",
}


def quoted(text: str) -> str:
    """A text as a literal of GoogleSQL."""
    for plain, escaped in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return f"'{text}'"


def _functions(warehouse: Warehouse, table: StoredTable, uri_of: Callable[[str], str]) -> Iterator[Statement]:
    """`…_between` for days, both included; of files that hold an instrument each also `…_of`, for some instruments."""
    template, told = table.layout.template, table.dataset.path_fields()
    parts = _DATED.fullmatch(template)
    if parts is None:
        return
    dated = "".join(
        f"{literal.replace('%', '%%')}{_CODES.get(name or '', '')}"
        for literal, name, _, _ in Formatter().parse(parts["dated"])
    )
    varying = dict.fromkeys(name for name in _names(parts["before"]) if name not in told)
    start, *more = _pieces(_left_open(parts["before"], told))
    before = _joined([_address(uri_of, start), *more], "of_")
    bounds = [
        f"_FILE_NAME >= CONCAT({before}, FORMAT_DATE({quoted(f'{dated}/')}, first_day))",
        # what follows a date in a path is a slash, and `0` is the character after it
        f"_FILE_NAME < CONCAT({before}, FORMAT_DATE({quoted(f'{dated}0')}, last_day))",
    ]
    days = ["first_day DATE", "last_day DATE"]
    inside = [] if table.layout.daily else ["`date` BETWEEN first_day AND last_day"]
    yield _function(warehouse, table, "between", [*(f"of_{name} STRING" for name in varying), *days], bounds + inside)
    if table.layout.daily and table.layout.per_instrument and not varying:
        rest = re.sub(r"\{(?!instrument_id)\w+\}", "%", f"%{_left_open(parts['after'], told)}")
        like = f"CONCAT({_joined(_pieces(rest.replace('{instrument_id}', '{like}')), 'instruments_')})"
        parameters = ["instruments_like STRING", *days]
        yield _function(warehouse, table, "of", parameters, [*bounds, f"_FILE_NAME LIKE {like}"])


def _left_open(template: str, told: Mapping[str, str]) -> str:
    """The template with values; a placeholder that has none stays."""
    return template.format_map({name: told.get(name, f"{{{name}}}") for name in _names(template)})


def _pieces(template: str) -> list[str]:
    """The literals and the placeholders of a template, in their order."""
    return [piece for piece in re.split(r"(\{[a-z_]+\})", template) if piece]


def _joined(pieces: Iterable[str], prefix: str) -> str:
    """Pieces of a template as arguments of CONCAT: a parameter for each placeholder."""
    return ", ".join(f"{prefix}{piece[1:-1]}" if piece.startswith("{") else quoted(piece) for piece in pieces)


def _function(
    warehouse: Warehouse, table: StoredTable, suffix: str, parameters: Sequence[str], conditions: Sequence[str]
) -> Statement:
    name = table_name(table)
    which = "of instruments whose ids are LIKE a pattern, " if suffix == "of" else ""
    files = "their files" if table.layout.daily else "the files of their months"
    told = f"Rows of {table.dataset.name} {which}from first_day to last_day, both included; reads {files} alone."
    wanted = "\n    AND ".join(conditions)
    return Statement(
        f"{name}_{suffix}",
        True,
        # made of names that stand in the code, and of the lake's address
        f"CREATE OR REPLACE TABLE FUNCTION {warehouse.named(f'{name}_{suffix}')}({', '.join(parameters)})\n"  # noqa: S608
        f"OPTIONS (description = {quoted(told)})\n"
        f"AS (\n  SELECT *\n  FROM {warehouse.named(name)}\n  WHERE {wanted}\n)",
    )
