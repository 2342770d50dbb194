"""Footers of Parquet files as bytes, so that row groups go from one file into another without being decoded.

A footer is one struct in Thrift's compact protocol (its fields: `parquet.thrift` of the Parquet format). Of a row group
that moves only the places of its columns and its number are changed; all else stays the bytes that they were.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any, Self, TypeVar

import pyarrow as pa

MAGIC = b"PAR1"
_TAIL = 8  # the length of the footer, and the magic
_ROWS, _GROUPS, _PAIRS = 3, 4, 5  # fields of the file's struct
_COLUMNS, _BYTES, _GROUP_ROWS, _START, _SIZE, _NUMBER = 1, 2, 3, 5, 6, 7  # of a row group's
_COLUMN = {2: "place", 3: {9: "place", 10: "place", 11: "place", 14: "elsewhere"}, 4: "elsewhere", 6: "elsewhere"}
_Item = TypeVar("_Item")
Fields = Mapping[int, tuple[int, bytes]]
"""The kind and the bytes of some fields of a struct."""
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _, _, _STRUCT = range(1, 13)
_FIXED = {_TRUE: 0, _FALSE: 0, _BYTE: 1, _DOUBLE: 8}


@dataclass(frozen=True)
class Column:
    """What a footer says of one column of a row group.

    Attributes:
        content: the struct.
        spots: what tells of places in it: name, first byte and end of each number.
    """

    content: bytes
    spots: tuple[tuple[str, int, int], ...]

    @classmethod
    def parse(cls, content: bytes, at: int) -> tuple[Self, int]:
        """The column whose struct begins at `at`, and where it ends."""
        spots: list[tuple[str, int, int]] = []
        end = _walk(content, at, _COLUMN, spots)
        return cls(content[at:end], tuple((name, first - at, last - at) for name, first, last in spots)), end

    def moved(self, shift: int) -> bytes:
        """The struct when its bytes lie so much further on."""
        parts, copied = [], 0
        for _, at, end in self.spots:
            value = _signed(_varint(self.content, at)[0])
            value += shift if value else 0  # 0 stands for none
            parts += [self.content[copied:at], _as_varint(_unsigned(value))]
            copied = end
        return b"".join([*parts, self.content[copied:]])


@dataclass(frozen=True)
class RowGroup:
    """What a footer says of one row group.

    Attributes:
        columns: its columns, whose bytes lie one after the other.
        fields: the kind and the bytes of each other field.
    """

    columns: tuple[Column, ...]
    fields: Fields

    @classmethod
    def parse(cls, content: bytes, at: int) -> tuple[Self, int]:
        """The row group whose struct begins at `at`, and where it ends."""
        columns, fields, end = _taken_apart(content, at, _COLUMNS, Column.parse)
        return cls(columns, fields), end

    def _number(self, field: int) -> int:
        return _signed(_varint(self.fields[field][1], 0)[0])

    @cached_property
    def start(self) -> int:
        """Where its first column begins."""
        return self._number(_START)

    @cached_property
    def size(self) -> int:
        """The bytes of its columns."""
        return self._number(_SIZE)

    @cached_property
    def rows(self) -> int:
        """How many rows it has."""
        return self._number(_GROUP_ROWS)

    @property
    def whole(self) -> bool:
        """Whether all that belongs to it lies between its columns' first and last byte: no indexes, no filters."""
        names = {name for column in self.columns for name, _, _ in column.spots}
        return "elsewhere" not in names and {_START, _SIZE} <= self.fields.keys()

    def moved(self, start: int, number: int, *beside: Self) -> bytes:
        """The struct when its columns begin at `start`, and it is the file's row group `number`.

        Args:
            start: where its first column begins.
            number: counted from 0.
            beside: row groups of as many rows, whose columns become its own and follow one after the other.
        """
        columns, at = [], start
        for group in (self, *beside):
            columns += [column.moved(at - group.start) for column in group.columns]
            at += group.size
        numbers = {_BYTES: sum(group._number(_BYTES) for group in (self, *beside)), _START: start, _SIZE: at - start}
        numbers |= {_NUMBER: number} if _NUMBER in self.fields else {}
        fields = {field: (self.fields[field][0], _as_varint(_unsigned(value))) for field, value in numbers.items()}
        return _struct({**self.fields, **fields, _COLUMNS: _structs(columns)})


@dataclass(frozen=True)
class Footer:
    """A file's footer.

    Attributes:
        fields: the kind and the bytes of each field but the row groups.
        groups: the row groups.
    """

    fields: Fields
    groups: tuple[RowGroup, ...]

    @classmethod
    def read(cls, file: pa.NativeFile | IO[bytes]) -> Self:
        """Reads the footer of an open file; raises ArrowInvalid where it is broken, as pyarrow does."""
        file.seek(0, 2)
        size = file.tell()
        file.seek(max(0, size - _TAIL))
        tail = file.read(_TAIL)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != MAGIC or not 0 < length <= size - _TAIL - len(MAGIC):
            raise pa.ArrowInvalid("it has no footer of Parquet")
        file.seek(size - _TAIL - length)
        try:
            footer = cls.parse(file.read(length))
        except (IndexError, ValueError, RecursionError) as error:
            raise pa.ArrowInvalid("its footer is broken") from error
        end = size - _TAIL - length
        moving = [group for group in footer.groups if group.whole and group.rows]  # no rows lie nowhere
        if any(group.start < len(MAGIC) or group.size < 0 or group.start + group.size > end for group in moving):
            raise pa.ArrowInvalid("its footer tells of bytes that it does not have")
        return footer

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Takes a footer apart."""
        groups, fields, _ = _taken_apart(content, 0, _GROUPS, RowGroup.parse)
        return cls(fields, groups)

    def like(self, other: "Footer") -> bool:
        """Whether both are of files with the same columns, by the same version of the same library."""
        free = {_ROWS, _PAIRS}
        return {k: v for k, v in self.fields.items() if k not in free} == {
            k: v for k, v in other.fields.items() if k not in free
        }

    def holding(self, groups: Sequence[bytes], rows: int) -> bytes:
        """The footer, and what ends the file, with these row groups instead."""
        fields = {**self.fields, _ROWS: (_I64, _as_varint(_unsigned(rows))), _GROUPS: _structs(groups)}
        content = _struct(fields)
        return content + len(content).to_bytes(4, "little") + MAGIC


def _taken_apart(
    content: bytes, at: int, listed: int, parse: Callable[[bytes, int], tuple[_Item, int]]
) -> tuple[tuple[_Item, ...], Fields, int]:
    """The struct that begins at `at`: the structs of the list in one field, the other fields, and where it ends."""
    items: list[_Item] = []
    fields: dict[int, tuple[int, bytes]] = {}
    field = 0
    while head := content[at]:
        field, kind, at = _field(content, at, field, head)
        begin = at
        if field == listed:
            count, _, at = _listed(content, at)
            for _ in range(count):
                item, at = parse(content, at)
                items.append(item)
        else:
            at = _end(content, at, kind)
            fields[field] = kind, content[begin:at]
    return tuple(items), fields, at + 1


def _structs(structs: Sequence[bytes]) -> tuple[int, bytes]:
    """The kind and the bytes of a list of structs."""
    return _LIST, _list_head(len(structs), _STRUCT) + b"".join(structs)


def _struct(fields: Fields) -> bytes:
    parts, before = [], 0
    for field, (kind, value) in sorted(fields.items()):
        parts += [bytes([(field - before) << 4 | kind]), value]
        before = field
    return b"".join([*parts, b"\0"])


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := content[at]) > 127:
        value |= (byte & 127) << shift
        shift += 7
        at += 1
    return value | byte << shift, at + 1


def _as_varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _signed(value: int) -> int:
    return value >> 1 ^ -(value & 1)


def _unsigned(value: int) -> int:
    return value << 1 ^ value >> 63


def _list_head(count: int, kind: int) -> bytes:
    return bytes([count << 4 | kind]) if count < 15 else bytes([15 << 4 | kind]) + _as_varint(count)


def _listed(content: bytes, at: int) -> tuple[int, int, int]:
    """How many items a list has, of which kind, and where the first begins."""
    head = content[at]
    count, at = (head >> 4, at + 1) if head >> 4 < 15 else _varint(content, at + 1)
    return count, head & 15, at


def _field(content: bytes, at: int, before: int, head: int) -> tuple[int, int, int]:
    """A field's number and kind, told by `head` at `at`, and where its value begins."""
    if head >> 4:
        return before + (head >> 4), head & 15, at + 1
    number, at = _varint(content, at + 1)
    return _signed(number), head & 15, at


def _end(content: bytes, at: int, kind: int) -> int:
    """Where a value ends that begins at `at`."""
    if kind in (_I16, _I32, _I64):
        while content[at] > 127:
            at += 1
        return at + 1
    if kind == _BINARY:
        length, at = _varint(content, at)
        return at + length
    if kind == _STRUCT:
        while head := content[at]:
            at = _end(content, at + 1 if head >> 4 else _varint(content, at + 1)[1], head & 15)
        return at + 1
    if kind == _LIST:
        count, of, at = _listed(content, at)
        if of in (_TRUE, _FALSE):
            return at + count  # a byte each; as fields they have none
        for _ in range(count):
            at = _end(content, at, of)
        return at
    if kind in _FIXED:
        return at + _FIXED[kind]
    raise ValueError(f"kind {kind} of a value")


def _walk(content: bytes, at: int, wanted: Mapping[int, Any], spots: list[tuple[str, int, int]]) -> int:
    """Adds the spots that are wanted of a struct, by field: a name, or what is wanted of the structs in it.

    Returns:
        Where the struct ends.
    """
    field = 0
    while head := content[at]:
        field, kind, at = _field(content, at, field, head)
        inner = wanted.get(field)
        if isinstance(inner, str):
            end = _end(content, at, kind)
            spots.append((inner, at, end))
            at = end
        elif inner and kind == _STRUCT:
            at = _walk(content, at, inner, spots)
        elif inner and kind == _LIST:
            count, _, at = _listed(content, at)
            for _ in range(count):
                at = _walk(content, at, inner, spots)
        else:
            at = _end(content, at, kind)
    return at + 1
