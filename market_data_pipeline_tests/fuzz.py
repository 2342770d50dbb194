"""Any bytes and texts for what reads from outside: they give rows or an error of this project, and nothing else.

Each target is a hypothesis test. The suite runs a few examples of each; `benchmarks.fuzz` runs them for as long as one
likes.
"""

import gzip
import io
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.errors import LayoutError, MarketDataError
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.layouts import Layout
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.model.windows import Window, as_day
from market_data_pipeline.settings import VARIABLES, Settings
from market_data_pipeline.sources.files.mapping import read_mapping
from market_data_pipeline.sources.files.source import FilesSource
from market_data_pipeline.sources.formats.binance_csv import Market, read_binance_trades
from market_data_pipeline.sources.formats.binance_klines import read_binance_klines
from market_data_pipeline.sources.formats.grouped import split_tardis
from market_data_pipeline.sources.formats.tardis_csv import read_tardis, vendor_name
from market_data_pipeline.sources.symbols import VENUES, instrument_of

DAY = date(2024, 8, 8)
STAMP = "1723075200000000"
TICKS = tuple(name for name in DATASETS if name in FilesSource(None).data_types)

_cells = (
    st.sampled_from(["", "0", "1", "-1", "1.5", STAMP, STAMP[:13], "buy", "sell", "true", "0x1F", "nan", "inf"])
    | st.sampled_from(["1e400", "9" * 30, "9" * 5000, "1e-400", "-0", " 1 ", "\ufeff1", '"', '"a,b"', "\x00", "é"])
    | st.text(max_size=8)
)
_ends = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "\n\n", ""])


@st.composite
def _tables(draw: st.DrawFn, header: tuple[str, ...], good: dict[str, str]) -> bytes:
    """Text near a vendor's file: mostly good cells under a mostly good header, with faults strewn in."""
    names = list(header)
    if draw(st.integers(0, 4)) == 0:
        names = (
            draw(st.permutations(names)) if draw(st.booleans()) else [*names, draw(_cells)][draw(st.integers(0, 2)) :]
        )
    lines = [",".join(names)] if draw(st.integers(0, 5)) else []
    for _ in range(draw(st.integers(0, 5))):
        cells = [good.get(name, "1.5") for name in names]
        for _ in range(draw(st.integers(0, 2))):
            cells[draw(st.integers(0, len(cells) - 1))] = draw(_cells)
        if draw(st.integers(0, 9)) == 0:
            cells = cells[draw(st.integers(0, len(cells))) :]
        lines.append(",".join(cells))
    text = "".join(line + draw(_ends) for line in lines).encode("utf-8", "surrogatepass")
    return draw(_damaged(text)) if draw(st.integers(0, 3)) == 0 else text


@st.composite
def _damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with some of them changed, put in, cut off or repeated."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        match draw(st.integers(0, 3)):
            case 0:
                content = content[:at] + draw(st.binary(max_size=4)) + content[at + draw(st.integers(0, 4)) :]
            case 1:
                content = content[:at]
            case 2:
                content += content[at:]
            case _:
                content = content[:at] + bytes([draw(st.integers(0, 255))]) + content[at + 1 :]
    return content


@st.composite
def _packed(draw: st.DrawFn, texts: st.SearchStrategy[bytes], suffixes: tuple[str, ...]) -> tuple[str, bytes]:
    """A file: its suffix and its bytes, whole or damaged, of its kind or of another."""
    suffix, text = draw(st.sampled_from(suffixes)), draw(texts)
    kind = draw(st.sampled_from([suffix, suffix, suffix, suffix, ".csv"]))
    content = {".gz": partial(gzip.compress, mtime=0), ".zip": partial(_zipped, draw)}.get(kind, bytes)(text)
    return suffix, draw(_damaged(content)) if draw(st.integers(0, 2)) == 0 else content


def _zipped(draw: st.DrawFn, text: bytes) -> bytes:
    buffer = io.BytesIO()
    how = draw(st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
    names = draw(
        st.sampled_from([["a.csv"], ["a.csv"], ["../../a.csv"], ["/etc/a.csv"], ["a.csv", "b.csv"], [], ["x"]])
    )
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name in names:
            archive.writestr(name, text)
    return buffer.getvalue()


def _tardis(name: str) -> st.SearchStrategy[bytes]:
    columns = ("exchange", "symbol", *(vendor_name(column.name) for column in DATASETS[name].columns))
    good = {
        "exchange": "deribit",
        "symbol": "BTC-PERPETUAL",
        "timestamp": STAMP,
        "local_timestamp": STAMP,
        "side": "buy",
    }
    times = {column: STAMP for column in columns if column.endswith(("timestamp", "expiration"))}
    return _tables(columns, good | times)


_BINANCE = ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker", "is_best_match")
_KLINES = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote",
    "count",
    "buy",
    "buy_quote",
    "x",
)
_MAPPING = ("venue", "symbol", "instrument_id", "contract_multiplier", "inverse", "volume_unit")


def _on_disk(file: tuple[str, bytes], read: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder) / f"file{file[0]}"
        path.write_bytes(file[1])
        with suppress(MarketDataError):
            read(path)


@given(
    st.sampled_from(TICKS).flatmap(
        lambda name: st.tuples(st.just(name), _packed(_tardis(name), (".gz", ".csv", ".zip")))
    )
)
def tardis_files(given: tuple[str, tuple[str, bytes]]) -> None:
    """A Tardis file, of one instrument and grouped."""
    name, file = given
    dataset = DATASETS[name]
    _on_disk(file, lambda path: list(read_tardis(path, dataset, DAY, "deribit", "BTC-PERPETUAL", Rejects())))

    def split(path: Path) -> None:
        held = split_tardis(path, dataset, DAY, "deribit", partial(instrument_of, "deribit"), Selection())
        for instrument in held.instruments:
            list(held.read(instrument, Rejects()))

    _on_disk(file, split)


@given(
    st.sampled_from(Market),
    _packed(
        _tables(_BINANCE, {"time": STAMP[:13], "is_buyer_maker": "true", "is_best_match": "true"}), (".zip", ".csv")
    ),
)
def binance_files(market: Market, file: tuple[str, bytes]) -> None:
    """A file of trades of Binance's archive."""
    _on_disk(file, lambda path: list(read_binance_trades(path, market, DAY, Rejects())))


@given(
    st.sampled_from(Market),
    _packed(_tables(_KLINES, {"open_time": STAMP[:13], "close_time": STAMP[:13], "count": "1"}), (".zip", ".csv")),
)
def kline_files(market: Market, file: tuple[str, bytes]) -> None:
    """A file of klines of Binance's archive."""
    _on_disk(file, lambda path: read_binance_klines(path, market, DAY, 100.0))


@given(
    _packed(
        _tables(_MAPPING, {"venue": "deribit", "symbol": "X", "instrument_id": "deribit:Perp:X-USD", "inverse": "true"})
        | st.binary(max_size=200),
        (".csv",),
    )
)
def mapping_files(file: tuple[str, bytes]) -> None:
    """The mapping file."""
    _on_disk(file, read_mapping)


_id_parts = st.sampled_from(["binance", "deribit", "SPOT_PAIR", "Perp", "Option", "Future", "BTC", "241225", "50000"])
_id_texts = st.text(max_size=40) | st.lists(
    _id_parts | st.sampled_from([":", "-", ".", "/", "..", "\x00", "*", "[", "?", "C", "_", "\u0663"]),
    max_size=12,
).map("".join)


@given(_id_texts, st.sampled_from(VENUES), _id_texts)
def ids(text: str, venue: str, symbol: str) -> None:
    """Ids, globs and vendors' symbols; what is accepted can stand in a path and is read back."""
    found = []
    with suppress(MarketDataError):
        found.append(Instrument.parse(text))
    with suppress(MarketDataError):
        found.append(instrument_of(venue, symbol))
    with suppress(MarketDataError):
        InstrumentType.named(text)
    with suppress(MarketDataError):
        selection = Selection.of(text)
        if Instrument.spot("binance", "BTC", "USDT") in selection:
            assert selection.may_hold("binance:")
    for instrument in found:
        assert Instrument.parse(instrument.id) == instrument
        assert not set(instrument.id) & set("/\\\x00 ")
        assert ".." not in instrument.id


_templates = st.lists(
    st.sampled_from(["{year}", "{month}", "{day}", "{venue}", "{instrument_id}", "{dataset}", "{", "}", "{0}", "/"])
    | st.sampled_from(["..", "{year!r}", "{year:4}", "{venue.real}", "{{", "a", "year=", "\\", "{day[0]}", "\x00"]),
    max_size=10,
).map("".join)
_paths = st.sampled_from([layout for dataset in DATASETS.values() for layout in dataset.layouts]).flatmap(
    lambda layout: st.tuples(
        st.just(layout),
        st.text(max_size=60)
        | _damaged(
            layout.template.replace("{year}", "2024").replace("{month}", "02").replace("{day}", "30").encode()
        ).map(lambda content: content.decode("utf-8", "replace")),
    )
)


@given(_templates, _paths, _id_texts)
def layouts(template: str, path: tuple[Layout, str], value: str) -> None:
    """Templates, paths, and values for placeholders; what is formatted stays below its folder."""
    with suppress(LayoutError):
        declared = Layout("made", template)
        with suppress(LayoutError):
            declared.parse(path[1])
        with suppress(LayoutError):
            declared.format(DAY, **dict.fromkeys(declared.placeholders - {"year", "month", "day"}, value))
    layout = path[0]
    with suppress(LayoutError):
        fields = layout.parse(path[1])
        layout.day_of(fields)
    names = layout.placeholders - {"year", "month", "day"}
    with suppress(LayoutError):
        made = layout.format(DAY, **dict.fromkeys(names, value))
        assert ".." not in made.split("/")
        assert made.count("/") == layout.template.count("/")
    with suppress(LayoutError):
        layout.prefix(DAY, **dict.fromkeys(names, value))


_values = (
    st.text(max_size=20)
    | st.sampled_from(["~nobody/x", "~", "gs://", "gs://a/../b", "gs://UPPER", "s3://x", "9" * 5000, "-1", "\x00"])
    | st.sampled_from(["http://", "http://[", "http://a:b@c", "http://a:99999999", "2024-13-01", "spot=flat", "²"])
)


@given(st.dictionaries(st.sampled_from([variable.name for variable in VARIABLES]), _values), st.binary(max_size=60))
def settings(values: dict[str, str], stored: bytes) -> None:
    """The environment and the file of settings."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        (Path(folder) / ".env").write_bytes(stored)
        with suppress(MarketDataError):
            loaded = Settings.load(values, Path(folder))
            if not loaded.lake.startswith("gs:"):
                loaded.open_store()
    with suppress(MarketDataError):
        as_day(values.get("MARKET_DATA_START", ""))
    with suppress(MarketDataError):
        Window.of(values.get("MARKET_DATA_START", ""), values.get("MARKET_DATA_LAKE", ""))


TARGETS: dict[str, Callable[[], None]] = {
    each.__name__: each  # type: ignore[attr-defined]
    for each in (tardis_files, binance_files, kline_files, mapping_files, ids, layouts, settings)
}
