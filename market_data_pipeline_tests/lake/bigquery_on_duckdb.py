"""A stand-in for BigQuery: its statements, read by sqlglot, on DuckDB over a folder; `_FILE_NAME` is `filename`."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp

from market_data_pipeline.lake.bigquery import Statement


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

    def ask(self, query: str) -> pa.Table:
        """The answer to a question in GoogleSQL."""
        return self._connection.sql(self._said(query)).to_arrow_table()

    def files_read(self, query: str) -> int:
        """How many files DuckDB opens for it, which leaves out those that a condition on the name rules out."""
        plan = self._connection.execute(f"explain analyze {self._said(query)}").fetchall()[0][1]
        return sum(map(int, re.findall(r"Total Files Read: (\d+)", plan)))

    def _said(self, query: str) -> str:
        return _local(sqlglot.parse_one(query, read="bigquery")).sql("duckdb")


def _local(query: Any) -> Any:
    """The query with the last parts of the tables' names alone."""
    for table in query.find_all(exp.Table):
        table.set("db", None)
        table.set("catalog", None)
    return query
