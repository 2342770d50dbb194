import pytest

from market_data_pipeline.model.contracts import Contract, VolumeUnit
from market_data_pipeline.model.errors import InstrumentError, SourceError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.sources.files.mapping import Mapping, read_mapping

HEADER = "venue,symbol,instrument_id,contract_multiplier,inverse,volume_unit"


@pytest.fixture
def mapping(tmp_path):
    def written(*lines: str, header: str = HEADER) -> Mapping:
        path = tmp_path / "instruments.csv"
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return read_mapping(path)

    return written


def test_it_wins_over_the_built_in_rules(mapping):
    read = mapping("bitmex,XBTZ24,bitmex:Future:BTC-USD-241227", "bitmex,XBT:X,bitmex:perp:btc-x", header=HEADER[:26])
    assert read.instrument("bitmex", "XBTZ24").id == "bitmex:Future:BTC-USD-241227"
    assert read.instrument("bitmex", "XBT-X").id == "bitmex:Perp:BTC-X"
    assert read.instrument("bitmex", "XBTUSD").id == "bitmex:Perp:BTC-USD"


def test_an_unknown_symbol_comes_with_the_way_to_declare_it(mapping):
    with pytest.raises(
        InstrumentError, match=r"'HOLA'.*declare it in .*instruments\.csv .*bitmex,HOLA,bitmex:SPOT_PAIR"
    ):
        mapping().instrument("bitmex", "HOLA")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("okex-swap,A,okex-swap:Perp:BTC-USDT,0.01,,", Contract(False, 0.01, VolumeUnit.CONTRACTS)),
        ("okex-swap,A,okex-swap:Perp:BTC-USD,100,,", Contract(True, 100.0, VolumeUnit.CONTRACTS)),
        ("okex-swap,A,okex-swap:Perp:BTC-USDT,,,base", Contract()),
        ("okex-swap,A,okex-swap:Perp:BTC-USDT,,,", Contract(False, None, VolumeUnit.CONTRACTS)),
        ("new,A,new:Perp:BTC-USD,,true,quote", Contract(True, 1.0, VolumeUnit.QUOTE)),
        ("new,A,new:Perp:BTC-USD,1.0,true,quote", Contract(True, 1.0, VolumeUnit.QUOTE)),
        ("new,A,new:Perp:BTC-USD,1,,", Contract()),
        ("new,A,new:Perp:BTC-USD,,true,contracts", Contract(True, None, VolumeUnit.CONTRACTS)),
        ("new,A,new:Perp:BTC-USD,1000,no,contracts", Contract(False, 1000.0, VolumeUnit.CONTRACTS)),
    ],
)
def test_contracts_fill_what_the_rule_leaves_open(mapping, line, expected):
    assert mapping(line).contract(Instrument.parse(line.split(",")[2])) == expected


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        (["a,B"], "line 2: 2 columns, expected 6"),
        (["a,,a:Perp:B-C,,,"], "line 2, column symbol: a value is needed"),
        (["a,B,a:Perp:B,,,"], "line 2, column instrument_id: .*BASE-QUOTE"),
        (["a,B,b:Perp:B-C,,,"], "line 2, column instrument_id: .* is not of venue 'a'"),
        (["", "a,B,a:Perp:B-C,x,,"], "line 3, column contract_multiplier: 'x' is no number above 0"),
        (["a,B,a:Perp:B-C,nan,,"], "contract_multiplier: 'nan'"),
        (["a,B,a:Perp:B-C,0,,"], "contract_multiplier: '0'"),
        (["a,B,a:Perp:B-C,,maybe,"], "line 2, column inverse: 'maybe'"),
        (["a,B,a:Perp:B-C,,,lots"], "line 2, column volume_unit: 'lots' is none of base, quote, contracts"),
        (["a,B,a:Perp:B-C,,true,base"], "volume_unit: amounts of an inverse contract count quote or contracts"),
        (["a,B,a:Perp:B-C,,,", "a,b,a:Perp:B-D,,,"], "line 3, column symbol: 'b' of a is declared on line 2 already"),
        (
            ["a,B,a:Perp:B-C,2,,contracts", "a,D,a:Perp:B-C,3,,contracts"],
            "line 3, column instrument_id: .*another contract on line 2",
        ),
        (["a,B,a:Perp:B-C,0.01,,"], "line 2, column contract_multiplier: '0.01' .*base asset.*volume_unit=contracts"),
        (["a,B,a:Perp:B-C,100,true,quote"], "line 2, column contract_multiplier: '100' .*quote asset"),
        (["deribit,B,deribit:Perp:B-USD,10,,"], "line 2, column contract_multiplier: '10' .*quote asset"),
        (['a,"B'], "cannot be read"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_column(mapping, lines, where):
    with pytest.raises(SourceError, match=rf"instruments\.csv.*{where}"):
        mapping(*lines)


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ("venue,symbol", "column 'instrument_id' is missing"),
        ("venue,symbol,instrument_id,multiplier", "'multiplier' is unknown"),
        ("venue,symbol,instrument_id,symbol", "'symbol' is unknown or doubled"),
        ("", "column 'venue' is missing"),
    ],
)
def test_a_wrong_header_is_refused(mapping, header, what):
    with pytest.raises(SourceError, match=what):
        mapping(header=header)


def test_what_is_no_text_is_refused(tmp_path):
    path = tmp_path / "instruments.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match="cannot be read"):
        read_mapping(path)
