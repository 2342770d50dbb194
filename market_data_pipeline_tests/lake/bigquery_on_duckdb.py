"""A stand-in for BigQuery: its statements, read by sqlglot, on DuckDB over a folder; `_FILE_NAME` is `filename`."""

import re
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlglot
from sqlglot import exp

from market_data_pipeline.lake.bigquery import Statement
from market_data_pipeline.model.datasets import Dataset


def parsed(text: str) -> exp.Create:
    """A statement as sqlglot reads it, which knows all of it but the line that names a connection."""
    found = sqlglot.parse_one(re.sub(r"^WITH CONNECTION `[^`]+`\n", "", text, flags=re.MULTILINE), read="bigquery")
    assert isinstance(found, exp.Create), f"sqlglot does not know all of {text}"
    return found


def columns(create: exp.Create) -> dict[str, str]:
    """The columns of an external table, and their types as BigQuery writes them."""
    return {each.name: each.args["kind"].sql("bigquery") for each in create.this.expressions}


def option(create: exp.Create, name: str) -> exp.Expression:
    """The value of an option of a table or function."""
    (found,) = (each for each in create.args["properties"].expressions if each.name.lower() == name)
    value = found.args["value"]
    assert isinstance(value, exp.Expression)
    return value


def uris(create: exp.Create) -> list[str]:
    return [each.name for each in option(create, "uris").expressions]


def fits(uri: str, name: str) -> bool:
    """Whether an object's address is one that an address with `*` stands for: any characters, slashes as well."""
    return re.fullmatch(".*".join(map(re.escape, uri.split("*"))), name) is not None


def logical_bytes(column: pa.ChunkedArray, named: Container[str] = ()) -> int:
    """What BigQuery counts for a column: a text's letters and 2, else 8 for each value; a null is none.

    Of structs in a list the fields that are named count.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    if pa.types.is_list(column.type):
        inner = pc.list_flatten(column)
        fields = [field.name for field in inner.type if field.name in named]
        return sum(logical_bytes(pc.struct_field(inner, field)) for field in fields)
    there = len(column) - column.null_count
    if not pa.types.is_string(column.type):
        return 8 * there
    return 2 * there + (pc.sum(pc.binary_length(column)).as_py() or 0)


class Stand:
    """The tables and functions of some statements.

    Args:
        made: the statements, with addresses of files in the folder.
        folder: where the lake lies.
    """

    def __init__(self, made: Iterable[Statement], folder: Path) -> None:
        self._connection = duckdb.connect()
        self._connection.execute("set TimeZone = 'UTC'")
        files = sorted(str(path) for path in folder.rglob("*.parquet"))
        for each in made:
            create = parsed(each.text)
            self._macro(create) if each.function else self._view(create, files)

    def _view(self, create: exp.Create, files: list[str]) -> None:
        held = [name for name in files if any(fits(uri, name) for uri in uris(create))]
        cast = (
            f'cast("{each.name}" as {each.args["kind"].sql("duckdb")}) as "{each.name}"'
            for each in create.this.expressions
        )
        self._connection.execute(
            f'create view {create.this.this.name} as select {", ".join(cast)}, filename as "_FILE_NAME" '
            f"from read_parquet({held!r}, filename = true)"
        )

    def _macro(self, create: exp.Create) -> None:
        names = ", ".join(each.name for each in create.this.expressions)
        query = _local(create.expression.unnest())
        # a pseudocolumn is none of `*`
        rows = query.sql("duckdb").replace("SELECT *", 'SELECT * EXCLUDE ("_FILE_NAME")', 1)
        self._connection.execute(f"create macro {create.this.this.name}({names}) as table {rows}")
        on_names = [each for each in query.args["where"].this.flatten() if each.find(exp.Column).name == "_FILE_NAME"]
        files = query.select("_FILE_NAME", append=False).distinct().where(exp.and_(*on_names), append=False)
        self._connection.execute(f"create macro {create.this.this.name}_files({names}) as table {files.sql('duckdb')}")

    def ask(self, query: str) -> pa.Table:
        """The answer to a question in GoogleSQL."""
        return self._connection.sql(self._said(query)).to_arrow_table()

    def files_read(self, query: str) -> int:
        """How many files DuckDB opens for it, which leaves out those that a condition on the name rules out."""
        plan = self._connection.execute(f"explain analyze {self._said(query)}").fetchall()[0][1]
        return sum(map(int, re.findall(r"Total Files Read: (\d+)", plan)))

    def files_of(self, query: str) -> tuple[str, list[str]]:
        """The function that a question calls, and the files that its conditions on names leave."""
        call = next(
            each.this for each in sqlglot.parse_one(query, read="bigquery").find_all(exp.Table) if each.this.expressions
        )
        given = ", ".join(each.sql("duckdb") for each in call.expressions)
        found = self._connection.execute(f"from {call.name}_files({given})").fetchall()
        return call.name, sorted(name for (name,) in found)

    def charged(self, query: str, dataset: Dataset, condition: str) -> int:
        """The bytes of the columns that a question and its function's condition name, in the files that are read."""
        named = {each.name for each in sqlglot.parse_one(query, read="bigquery").find_all(exp.Identifier)}
        columns = [name for name in dataset.schema.names if name in named or f"`{name}`" in condition]
        _, files = self.files_of(query)
        tables = [pq.ParquetFile(name).read(columns=columns) for name in files]
        return sum(logical_bytes(table.column(name), named) for table in tables for name in columns)

    def _said(self, query: str) -> str:
        return _local(sqlglot.parse_one(query, read="bigquery")).sql("duckdb")


def _local(query: Any) -> Any:
    """The query with the last parts of the tables' names alone."""
    for table in query.find_all(exp.Table):
        table.set("db", None)
        table.set("catalog", None)
    return query
