"""Typed streams of vendors' CSV files, and the line at fault when one cannot be typed. No vendor is known here."""

import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.sources.formats.unpack import Origin, line_blocks

_TRUE = ("True", "true", "TRUE", "1")
_FALSE = ("False", "false", "FALSE", "0")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SHOWN = 60
_TYPING = 2  # blocks of a file that are typed beside each other; more make no difference


@dataclass(frozen=True)
class Field:
    """A column of a vendor's file that is read.

    Attributes:
        name: as the header has it.
        type: int64, float64, bool, string or a dictionary of strings.
        required: an empty value is an error, not a null.
    """

    name: str
    type: pa.DataType
    required: bool = False


@dataclass(frozen=True)
class Form:
    """The form of one file.

    Attributes:
        columns: the names of all its columns, in the file's order; those that `fields` does not name are not read.
        fields: the columns that are read.
        has_header: the first line holds names.
    """

    columns: tuple[str, ...]
    fields: tuple[Field, ...]
    has_header: bool


@dataclass(frozen=True)
class Block:
    """Some rows of a file.

    Attributes:
        rows: the typed rows, with the columns of the form's fields.
        line: the line of the file on which the first of them stands, counted from 1.
        text: the lines that they were read from.
    """

    rows: pa.RecordBatch
    line: int
    text: bytes

    @cached_property
    def lines(self) -> list[bytes]:
        """The text of each row, without its line end."""
        return self.text.splitlines()


def typed_blocks(path: Origin, form_of: Callable[[list[str]], Form]) -> Iterator[Block]:
    """Streams a CSV file's rows as typed batches, in the file's order, at bounded memory.

    A line is a row: nothing is quoted, no line is skipped. Numbers are plain decimals; `nan`, `inf` and hexadecimal
    ones are errors, in any column that is read.

    Args:
        path: a `.csv`, `.csv.gz` or `.zip` file.
        form_of: tells the form from the cells of the first line; may raise SourceError.

    Raises:
        SourceError: the file is torn, or a value cannot be typed; the message names file, line, column and text.
    """
    blocks = line_blocks(path)
    # unpacking and typing run ahead, beside what is done with the rows: all let go of the interpreter's lock
    with closing(blocks), ThreadPoolExecutor(1, "unpack") as unpacking, ThreadPoolExecutor(_TYPING, "type") as typing:

        def unpacked() -> Iterator[bytes]:
            coming = unpacking.submit(next, blocks, None)
            while (text := coming.result()) is not None:
                coming = unpacking.submit(next, blocks, None)
                yield text

        form, line, texts = _begun(unpacked(), form_of)
        coming = ((text, typing.submit(_typed, text, form)) for text in texts)
        held = deque(islice(coming, _TYPING))
        while held:
            text, made = held.popleft()
            held.extend(islice(coming, 1))
            rows, doubt = made.result()
            fault = _fault(path, text, line, form) if doubt else None
            if fault or rows is None:
                raise fault or SourceError(f"{path} from line {line} on: {doubt}")
            yield Block(rows, line, text)
            line += rows.num_rows


def _begun(texts: Iterator[bytes], form_of: Callable[[list[str]], Form]) -> tuple[Form, int, Iterator[bytes]]:
    """The form of a file, the line on which its rows begin, and their texts."""
    text = next(texts, None)
    if text is None:
        return Form((), (), has_header=False), 1, texts
    first, _, after = text.partition(b"\n")
    form = form_of(first.decode("utf-8-sig", "replace").rstrip("\r").split(","))
    line, text = (2, after) if form.has_header else (1, text)
    return form, line, chain([text] if text else [], texts)


def _typed(text: bytes, form: Form) -> tuple[pa.RecordBatch | None, str]:
    """The rows of a text, None where Arrow cannot type them; and a doubt, which only a look at the lines can clear."""
    names = [field.name for field in form.fields]
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            read_options=csv.ReadOptions(column_names=form.columns, block_size=len(text) + 1, use_threads=False),
            parse_options=csv.ParseOptions(quote_char=False, double_quote=False, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                column_types={field.name: field.type for field in form.fields},
                include_columns=names,
                null_values=[""],
                strings_can_be_null=True,
                true_values=_TRUE,
                false_values=_FALSE,
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        return None, str(error)
    rows = pa.RecordBatch.from_arrays([_whole(table.column(name)) for name in names], names=names)
    sound = all(_sound(rows.column(i), field) for i, field in enumerate(form.fields)) and not _has_hex(text, form)
    return rows, "" if sound else "a value is missing, or is no plain number"


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _sound(values: pa.Array, field: Field) -> bool:
    if field.required and values.null_count:
        return False
    if pa.types.is_floating(field.type):
        # a sum that is finite has no part that isn't; one that isn't finite may only have overflowed
        return math.isfinite(pc.sum(values).as_py() or 0.0)
    return True


def _has_hex(text: bytes, form: Form) -> bool:
    """Arrow takes `0x10` for an integer; ids may hold the letters, so only a look at the lines can tell."""
    # one letter is found several times faster than two
    if not any(letter in text and pair in text for letter, pair in ((b"x", b"0x"), (b"X", b"0X"))):
        return False
    whole = tuple(field.name for field in form.fields if pa.types.is_integer(field.type))
    table = csv.read_csv(
        pa.BufferReader(text),
        read_options=csv.ReadOptions(column_names=form.columns, block_size=len(text) + 1),
        parse_options=csv.ParseOptions(quote_char=False, double_quote=False, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(whole, pa.string()), include_columns=whole),
    )
    return any(pc.any(pc.match_substring(column, "x", ignore_case=True)).as_py() for column in table.columns)


def _fault(path: Origin, text: bytes, line: int, form: Form) -> SourceError | None:
    """The first value that cannot be what its column wants, found the slow way."""
    wanted = [(form.columns.index(field.name), field) for field in form.fields]
    for number, row in enumerate(text.splitlines(), line):
        cells = row.split(b",")
        if len(cells) != len(form.columns):
            shown = row[:_SHOWN].decode("utf-8", "replace")
            return SourceError(
                f"{path} line {number}: {len(cells)} columns, expected {len(form.columns)}; found {shown!r}"
            )
        for position, field in wanted:
            why = _complaint(cells[position], field)
            if why:
                return SourceError(f"{path} line {number}: {why}")
    return None


def _complaint(cell: bytes, field: Field) -> str | None:
    try:
        text = cell.decode()
    except UnicodeDecodeError:
        return f"{field.name} {cell[:_SHOWN]!r} is no UTF-8 text"
    if not text:
        return f"{field.name} is empty, but a value is needed" if field.required else None
    shown, text = repr(text[:_SHOWN]), text.strip(" \t")
    if pa.types.is_integer(field.type):
        if not _INTEGER.fullmatch(text):
            return f"{field.name} {shown} is no whole number"
        # Python itself refuses to read thousands of digits
        digits = len(text.lstrip("+-0"))
        return None if digits < 20 and -(2**63) <= int(text) < 2**63 else f"{field.name} {shown} is too large"
    if pa.types.is_floating(field.type):
        return None if _REAL.fullmatch(text) and math.isfinite(float(text)) else f"{field.name} {shown} is no number"
    if pa.types.is_boolean(field.type):
        return None if text in (*_TRUE, *_FALSE) else f"{field.name} {shown} is neither true nor false"
    return None
