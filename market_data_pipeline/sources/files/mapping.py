"""The mapping file: symbols and contracts that no built-in rule knows, or knows otherwise, declared in a small CSV."""

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path

from market_data_pipeline.model.contracts import Contract, VolumeUnit
from market_data_pipeline.model.errors import InstrumentError, SourceError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.sources.symbols import file_symbol, instrument_of
from market_data_pipeline.sources.venues import contract_of

MAPPING_NAME = "instruments.csv"
_REQUIRED = ("venue", "symbol", "instrument_id")
_COLUMNS = (*_REQUIRED, "contract_multiplier", "inverse", "volume_unit")
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_LARGEST = 16 << 20


@dataclass(frozen=True)
class Mapping:
    """What a mapping file declares; an empty one leaves everything to the built-in rules.

    Attributes:
        path: where the file lies, or where it would be looked for.
        instruments: (venue, symbol as in file names) to instrument.
        contracts: the contract of each instrument for which one was declared.
    """

    path: Path
    instruments: dict[tuple[str, str], Instrument] = field(default_factory=dict)
    contracts: dict[Instrument, Contract] = field(default_factory=dict)

    def instrument(self, venue: str, symbol: str) -> Instrument:
        """The declared instrument, else the one that the built-in rules tell.

        Raises:
            InstrumentError: neither knows the symbol; the message says how to declare it.
        """
        declared = self.instruments.get((venue, file_symbol(symbol)))
        if declared is not None:
            return declared
        try:
            return instrument_of(venue, symbol)
        except InstrumentError as error:
            raise InstrumentError(f"{error}; {self.advice(venue, symbol)}") from None

    def contract(self, instrument: Instrument) -> Contract:
        """The declared contract, else the built-in rule's."""
        return self.contracts.get(instrument) or contract_of(instrument)

    def advice(self, venue: str, symbol: str) -> str:
        """How to declare a symbol."""
        return (
            f"declare it in {self.path} (header {','.join(_REQUIRED)}) with a line such as "
            f"{venue},{symbol},{venue}:SPOT_PAIR:BTC-USDT"
        )


def read_mapping(path: Path) -> Mapping:
    """Reads a mapping file: CSV with columns venue, symbol, instrument_id[, contract_multiplier, inverse, volume_unit].

    Raises:
        SourceError: the file cannot be read or is malformed; the message names file, line and column.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise SourceError(f"{path}: more than {_LARGEST >> 20} MiB, which is no mapping file")
        with path.open(encoding="utf-8-sig", newline="") as text:
            rows = csv.reader(text, strict=True)
            header = [name.strip() for name in next(rows, [])]
            _check_header(path, header)
            mapping = Mapping(path)
            lines: dict[object, int] = {}
            for cells in rows:
                if any(cell.strip() for cell in cells):
                    _add(mapping, _Line(path, rows.line_num, header, cells), lines)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: the mapping file cannot be read: {error}") from error
    return mapping


def _check_header(path: Path, header: list[str]) -> None:
    wrong = [name for name in header if name not in _COLUMNS or header.count(name) > 1]
    missing = [name for name in _REQUIRED if name not in header]
    if wrong or missing:
        what = f"column {missing[0]!r} is missing" if missing else f"column {wrong[0]!r} is unknown or doubled"
        raise SourceError(f"{path} line 1: {what}; found {','.join(header)!r}, expected {','.join(_COLUMNS)}")


class _Line:
    """One line of the file, which knows how to complain about itself."""

    def __init__(self, path: Path, number: int, header: list[str], cells: list[str]) -> None:
        self.path, self.number = path, number
        if len(cells) != len(header):
            raise SourceError(f"{path} line {number}: {len(cells)} columns, expected {len(header)}")
        self.values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}

    def __getitem__(self, column: str) -> str:
        return self.values.get(column, "")

    def wrong(self, column: str, why: str) -> SourceError:
        return SourceError(f"{self.path} line {self.number}, column {column}: {why}")


def _add(mapping: Mapping, line: _Line, lines: dict[object, int]) -> None:
    instrument = _instrument(line)
    key = (line["venue"].lower(), file_symbol(line["symbol"]))
    if key in lines:
        raise line.wrong("symbol", f"{line['symbol']!r} of {key[0]} is declared on line {lines[key]} already")
    lines[key] = line.number
    mapping.instruments[key] = instrument
    if any(line[name] for name in _COLUMNS[3:]):
        contract = _contract(line, contract_of(instrument))
        if mapping.contracts.get(instrument, contract) != contract:
            raise line.wrong(
                "instrument_id", f"{instrument} has another contract on line {lines[instrument]}; keep one of them"
            )
        lines[instrument] = line.number
        mapping.contracts[instrument] = contract


def _instrument(line: _Line) -> Instrument:
    for column in _REQUIRED:
        if not line[column]:
            raise line.wrong(column, "a value is needed")
    try:
        instrument = Instrument.parse(line["instrument_id"])
    except InstrumentError as error:
        raise line.wrong("instrument_id", str(error)) from None
    if instrument.venue != line["venue"].lower():
        raise line.wrong("instrument_id", f"{instrument} is not of venue {line['venue']!r}")
    return instrument


def _contract(line: _Line, rule: Contract) -> Contract:
    inverse, unit, multiplier = rule.inverse, rule.unit, rule.multiplier
    if text := line["inverse"]:
        if text.lower() not in _TRUTH:
            raise line.wrong("inverse", f"{text!r} is neither true nor false")
        inverse = _TRUTH[text.lower()]
    if text := line["volume_unit"]:
        if text.lower() not in list(VolumeUnit):
            raise line.wrong("volume_unit", f"{text!r} is none of {', '.join(VolumeUnit)}")
        unit = VolumeUnit(text.lower())
    if unit is (VolumeUnit.BASE if inverse else VolumeUnit.QUOTE):
        fits = "quote or contracts" if inverse else "base or contracts"
        raise line.wrong("volume_unit", f"amounts of {'an inverse' if inverse else 'a linear'} contract count {fits}")
    if (inverse, unit) != (rule.inverse, rule.unit):
        multiplier = None if unit is VolumeUnit.CONTRACTS else 1.0
    if text := line["contract_multiplier"]:
        multiplier = _positive(line, text)
    if unit is not VolumeUnit.CONTRACTS and multiplier != 1:
        raise line.wrong(
            "contract_multiplier",
            f"{line['contract_multiplier']!r} would scale amounts that count the {unit} asset itself; where they count "
            "contracts of that size, add volume_unit=contracts, else leave it empty",
        )
    return Contract(inverse, multiplier, unit)


def _positive(line: _Line, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise line.wrong("contract_multiplier", f"{text!r} is no number above 0")
    return number
