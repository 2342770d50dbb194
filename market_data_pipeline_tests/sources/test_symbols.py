from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data_pipeline.model.contracts import Contract, VolumeUnit
from market_data_pipeline.model.errors import InstrumentError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.sources.symbols import file_symbol, instrument_of
from market_data_pipeline.sources.venues import contract_of

KNOWN = """
binance                  ETHUSDT                        binance:SPOT_PAIR:ETH-USDT
binance                  ETHBTC                         binance:SPOT_PAIR:ETH-BTC
binance                  BTCFDUSD                       binance:SPOT_PAIR:BTC-FDUSD
binance                  1000SATSUSDT                   binance:SPOT_PAIR:1000SATS-USDT
binance                  1INCHUSDT                      binance:SPOT_PAIR:1INCH-USDT
binance                  USDCUSDT                       binance:SPOT_PAIR:USDC-USDT
binance                  USDTTRY                        binance:SPOT_PAIR:USDT-TRY
binance                  TUSDT                          binance:SPOT_PAIR:T-USDT
binance                  BTTTUSD                        binance:SPOT_PAIR:BTT-TUSD
binance                  ADAEUR                         binance:SPOT_PAIR:ADA-EUR
binance                  BTCAEUR                        binance:SPOT_PAIR:BTC-AEUR
binance-us               BNBUSD                         binance-us:SPOT_PAIR:BNB-USD
binance-us               BTCBUSD                        binance-us:SPOT_PAIR:BTC-BUSD
binance-futures          ETHUSDT                        binance-futures:Perp:ETH-USDT
binance-futures          1000PEPEUSDT                   binance-futures:Perp:1000PEPE-USDT
binance-futures          BTCUSDT_240927                 binance-futures:Future:BTC-USDT-240927
binance-delivery         BTCUSD_PERP                    binance-delivery:Perp:BTC-USD
binance-delivery         BTCUSD_240927                  binance-delivery:Future:BTC-USD-240927
binance-options          BTC-240927-60000-C             binance-options:Option:BTC-USDT-60000-240927-C
deribit                  BTC-PERPETUAL                  deribit:Perp:BTC-USD
deribit                  SOL_USDC-PERPETUAL             deribit:Perp:SOL-USDC
deribit                  BTC-27SEP24                    deribit:Future:BTC-USD-240927
deribit                  BTC_USDC-27SEP24               deribit:Future:BTC-USDC-240927
deribit                  BTC-9JUN20-9875-P              deribit:Option:BTC-USD-9875-200609-P
deribit                  BTC-27SEP24-60000-C            deribit:Option:BTC-USD-60000-240927-C
deribit                  BTC_USDC-27SEP24-60000-C       deribit:Option:BTC-USDC-60000-240927-C
deribit                  XRP_USDC-27SEP24-0d55-C        deribit:Option:XRP-USDC-0.55-240927-C
deribit                  BTC_USDC                       deribit:SPOT_PAIR:BTC-USDC
bitmex                   XBTUSD                         bitmex:Perp:BTC-USD
bitmex                   ETHUSDT                        bitmex:Perp:ETH-USDT
okex                     BTC-USDT                       okex:SPOT_PAIR:BTC-USDT
okex-swap                BTC-USDT-SWAP                  okex-swap:Perp:BTC-USDT
okex-futures             BTC-USD-240927                 okex-futures:Future:BTC-USD-240927
okex-options             BTC-USD-240927-60000-P         okex-options:Option:BTC-USD-60000-240927-P
bybit                    BTCUSD                         bybit:Perp:BTC-USD
bybit                    BTCPERP                        bybit:Perp:BTC-USDC
bybit                    BTC-27SEP24                    bybit:Future:BTC-USDC-240927
bybit                    BTCUSDT-27SEP24                bybit:Future:BTC-USDT-240927
bybit-spot               BTCUSDT                        bybit-spot:SPOT_PAIR:BTC-USDT
bybit-options            BTC-27SEP24-60000-C            bybit-options:Option:BTC-USDC-60000-240927-C
bybit-options            BTC-27SEP24-60000-C-USDT       bybit-options:Option:BTC-USDT-60000-240927-C
coinbase                 BTC-USD                        coinbase:SPOT_PAIR:BTC-USD
kraken                   XBT/USD                        kraken:SPOT_PAIR:BTC-USD
kraken                   XDG-EUR                        kraken:SPOT_PAIR:DOGE-EUR
bitfinex                 BTCUST                         bitfinex:SPOT_PAIR:BTC-USDT
bitfinex                 AVAX:USD                       bitfinex:SPOT_PAIR:AVAX-USD
bitfinex-derivatives     BTCF0:USTF0                    bitfinex-derivatives:Perp:BTC-USDT
bitstamp                 btcusd                         bitstamp:SPOT_PAIR:BTC-USD
huobi                    HTUSDT                         huobi:SPOT_PAIR:HT-USDT
kucoin-futures           XBTUSDTM                       kucoin-futures:Perp:BTC-USDT
upbit                    KRW-BTC                        upbit:SPOT_PAIR:BTC-KRW
woo-x                    PERP_BTC_USDT                  woo-x:Perp:BTC-USDT
"""


@pytest.mark.parametrize("line", KNOWN.split("\n")[1:-1])
def test_a_vendors_symbol_becomes_an_id(line):
    venue, symbol, expected = line.split()
    assert instrument_of(venue, symbol).id == expected
    assert instrument_of(venue, file_symbol(symbol)).id == expected


@pytest.mark.parametrize(
    ("venue", "symbol", "why"),
    [
        ("binance", "USDT", "ends in none of the quote assets"),
        ("binance", "ABCDEF", "ends in none of the quote assets"),
        ("binance-us", "ZZZBUSD", "can end in any of the quote assets BUSD and USD"),
        ("binance-futures", "BTCUSDT_241332", "month must be in 1..12"),
        ("deribit", "BTC-32SEP24", "day is out of range"),
        ("deribit", "BTC-27SAP24", "'SAP' is no month"),
        ("deribit", "BTC-FS-28MAR25_PERP", "none of the forms"),
        ("deribit", "BTC-27SEP24-060000-C", "strike"),
        ("bitmex", "XBTZ24", "ends in none of the quote assets"),
        ("bybit", "BTCUSDM24", "ends in none of the quote assets"),
        ("nowhere", "BTCUSDT", "no rules for the symbols of venue 'nowhere'"),
        ("binance", "币安USDT", "none of the forms"),
        ("binance", "../../etc/USDT", "none of the forms"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(venue, symbol, why):
    with pytest.raises(InstrumentError, match=why) as caught:
        instrument_of(venue, symbol)
    assert symbol in str(caught.value)


ASSETS = st.from_regex(r"[A-Z0-9]{1,12}", fullmatch=True)


@given(ASSETS, st.sampled_from(["USDT", "USDC"]), st.dates(date(2000, 1, 1), date(2099, 12, 31)))
def test_built_symbols_come_back(base, quote, day):
    assert instrument_of("okex", f"{base}-{quote}") == Instrument.spot("okex", base, quote)
    future = instrument_of("deribit", f"{base}_{quote}-{day.day}{day.strftime('%b%y').upper()}")
    assert future.expiry is not None
    assert (future.base, future.quote) == (base, quote)
    assert f"{future.expiry:%d%b%y}" == f"{day:%d%b%y}"
    assert instrument_of("binance-futures", f"{base}{quote}_{day:%y%m%d}") == Instrument.future(
        "binance-futures", base, quote, day
    )


@given(st.sampled_from(sorted({line.split()[0] for line in KNOWN.split("\n")[1:-1]})), st.text(max_size=40))
def test_any_text_is_an_instrument_of_that_venue_or_refused(venue, text):
    try:
        instrument = instrument_of(venue, text)
    except InstrumentError:
        return
    assert Instrument.parse(instrument.id) == instrument
    assert instrument.venue == venue


@pytest.mark.parametrize(
    ("id_", "expected"),
    [
        ("binance:SPOT_PAIR:BTC-USDT", Contract()),
        ("binance-futures:Perp:BTC-USDT", Contract()),
        ("binance-delivery:Perp:BTC-USD", Contract(True, 100.0, VolumeUnit.CONTRACTS)),
        ("binance-delivery:Future:ETH-USD-240927", Contract(True, 10.0, VolumeUnit.CONTRACTS)),
        ("deribit:Perp:BTC-USD", Contract(True, 1.0, VolumeUnit.QUOTE)),
        ("deribit:Perp:SOL-USDC", Contract()),
        ("deribit:Option:BTC-USD-60000-240927-C", Contract()),
        ("bitmex:Perp:BTC-USD", Contract(True, 1.0, VolumeUnit.QUOTE)),
        ("bitmex:Perp:ETH-USD", Contract(False, None, VolumeUnit.CONTRACTS)),
        ("okex-swap:Perp:BTC-USDT", Contract(False, None, VolumeUnit.CONTRACTS)),
        ("okex-swap:Perp:BTC-USD", Contract(True, None, VolumeUnit.CONTRACTS)),
        ("nowhere:Perp:BTC-USD", Contract()),
    ],
)
def test_contracts(id_, expected):
    assert contract_of(Instrument.parse(id_)) == expected
