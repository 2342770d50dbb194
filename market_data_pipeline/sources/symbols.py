"""Vendors' symbols to canonical instruments: a table of forms for each venue. What cannot be told apart is refused.

Symbols are read as they stand in file names: capitals, with `/` and `:` turned into `-`.
"""

import re
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from types import MappingProxyType

from market_data_pipeline.model.errors import InstrumentError
from market_data_pipeline.model.instruments import Instrument, InstrumentType

GROUPED = MappingProxyType(
    {
        "SPOT": InstrumentType.SPOT,
        "PERPETUALS": InstrumentType.PERPETUAL,
        "FUTURES": InstrumentType.FUTURE,
        "OPTIONS": InstrumentType.OPTION,
    }
)
"""Symbols that stand for all instruments of a type in one file."""

_STABLE = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "DAI")
_COINS = ("BTC", "ETH", "BNB")
_MONEY = ("USD", "EUR", "GBP", "JPY", "AUD", "TRY")
_BINANCE_QUOTES = (
    *("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "DAI", "USDP", "USDS", "PAX", "UST", "USD1", "VAI"),
    *("BTC", "ETH", "BNB", "TRX", "XRP", "DOGE", "DOT", "SOL"),
    *("EUR", "AEUR", "EURI", "GBP", "AUD", "TRY", "BRL", "RUB", "UAH", "NGN", "ZAR", "IDRT", "BIDR", "BKRW", "BVND"),
    *("JPY", "PLN", "RON", "ARS", "MXN", "COP", "CZK"),
)
# Where two quote assets fit the end of a symbol (ADAEUR: EUR or AEUR), a base that is known decides.
_NAMES_KNOWN = (
    "BTC ETH BNB XRP ADA SOL DOGE DOT TRX LTC BCH LINK AVAX MATIC POL UNI ATOM ETC XLM XMR FIL APT ARB OP SUI NEAR "
    "AAVE ALGO ICP VET EOS SAND MANA AXS FTM GRT MKR SNX CRV LDO FTT SHIB PEPE TON INJ RUNE GALA CHZ DASH ZEC NEO "
    "IOTA XTZ BTT WIN BAT ZRX ENJ COMP YFI SUSHI BAL KNC OMG QTUM ONT ZIL HOT CELO KSM EGLD THETA HBAR FLOW USDT "
    "USDC FDUSD BUSD TUSD DAI USDP EUR GBP AUD"
)
_KNOWN = frozenset(_NAMES_KNOWN.split())


@dataclass(frozen=True, slots=True)
class _Form:
    """How a venue writes the symbols of one type.

    Attributes:
        type: what the symbol is.
        pattern: groups `base` and `quote`, or `pair` (run together); `ymd` or `dmy` (expiry), `strike`, `side`.
        quote: the quote asset where the symbol has none.
        quotes: the quote assets that a `pair` may end in.
        names: assets that the venue calls by another name.
    """

    type: InstrumentType
    pattern: re.Pattern[str]
    quote: str | None = None
    quotes: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = ()


_A = "[A-Z0-9]+"
_PAIR = rf"(?P<pair>{_A})"
_YMD = r"(?P<ymd>[0-9]{6})"
_DMY = r"(?P<dmy>[0-9]{1,2}[A-Z]{3}[0-9]{2})"
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_END = r"(?P<strike>[0-9]+(?:[.D][0-9]+)?)-(?P<side>[CP])"


def _two(separator: str) -> str:
    return f"(?P<base>{_A}){separator}(?P<quote>{_A})"


def _spot(pattern: str, *, quotes: tuple[str, ...] = (), names: tuple[tuple[str, str], ...] = ()) -> _Form:
    return _Form(InstrumentType.SPOT, re.compile(pattern), quotes=quotes, names=names)


def _perp(
    pattern: str,
    *,
    quote: str | None = None,
    quotes: tuple[str, ...] = (),
    names: tuple[tuple[str, str], ...] = (),
) -> _Form:
    return _Form(InstrumentType.PERPETUAL, re.compile(pattern), quote, quotes, names)


def _future(pattern: str, *, quote: str | None = None, quotes: tuple[str, ...] = ()) -> _Form:
    return _Form(InstrumentType.FUTURE, re.compile(pattern), quote, quotes)


def _option(pattern: str, *, quote: str | None = None) -> _Form:
    return _Form(InstrumentType.OPTION, re.compile(pattern), quote)


_XBT = ("XBT", "BTC")
_WESTERN = (*_MONEY, "USDT", "USDC", *_COINS)
_UM = ("USDT", "USDC", "BUSD", "BTC", "ETH")
_BASE = f"(?P<base>{_A})"
_DASHED, _UNDERSCORED = _two("-"), _two("_")

_FORMS: dict[str, tuple[_Form, ...]] = {
    "binance": (_spot(_PAIR, quotes=_BINANCE_QUOTES),),
    "binance-us": (_spot(_PAIR, quotes=("USD", *_STABLE, *_COINS)),),
    "binance-futures": (_perp(_PAIR, quotes=_UM), _future(f"{_PAIR}_{_YMD}", quotes=_UM)),
    "binance-delivery": (_perp(f"{_PAIR}_PERP", quotes=("USD",)), _future(f"{_PAIR}_{_YMD}", quotes=("USD",))),
    "binance-options": (_option(f"{_BASE}-{_YMD}-{_END}", quote="USDT"),),
    "binance-european-options": (_option(f"{_BASE}-{_YMD}-{_END}", quote="USDT"),),
    "deribit": (
        _perp(f"{_BASE}-PERPETUAL", quote="USD"),
        _perp(f"{_UNDERSCORED}-PERPETUAL"),
        _future(f"{_BASE}-{_DMY}", quote="USD"),
        _future(f"{_UNDERSCORED}-{_DMY}"),
        _option(f"{_BASE}-{_DMY}-{_END}", quote="USD"),
        _option(f"{_UNDERSCORED}-{_DMY}-{_END}"),
        _spot(_UNDERSCORED),
    ),
    "bitmex": (_perp(_PAIR, quotes=("USD", "USDT", "EUR"), names=(_XBT,)),),
    "okex": (_spot(_DASHED),),
    "okcoin": (_spot(_DASHED),),
    "okex-swap": (_perp(f"{_DASHED}-SWAP"),),
    "okex-futures": (_future(f"{_DASHED}-{_YMD}"),),
    "okex-options": (_option(f"{_DASHED}-{_YMD}-{_END}"),),
    "bybit": (
        _perp(f"{_BASE}PERP", quote="USDC"),
        _perp(_PAIR, quotes=("USDT", "USD")),
        _future(f"{_BASE}(?P<quote>USDT)-{_DMY}"),
        _future(f"{_BASE}-{_DMY}", quote="USDC"),
    ),
    "bybit-spot": (_spot(_PAIR, quotes=(*_STABLE, *_COINS, "EUR", "BRL", "TRY")),),
    "bybit-options": (
        _option(f"{_BASE}-{_DMY}-{_END}", quote="USDC"),
        _option(f"{_BASE}-{_DMY}-{_END}-(?P<quote>{_A})"),
    ),
    "coinbase": (_spot(_DASHED),),
    "coinbase-international": (_perp(f"{_BASE}-PERP", quote="USDC"),),
    "kraken": (_spot(_DASHED, names=(_XBT, ("XDG", "DOGE"))),),
    "bitfinex": (
        _spot(_DASHED, names=(("UST", "USDT"),)),
        _spot(_PAIR, quotes=(*_MONEY, "UST", "BTC", "ETH"), names=(("UST", "USDT"),)),
    ),
    "bitfinex-derivatives": (_perp(f"(?P<base>{_A})F0-(?P<quote>UST|{_A})F0", names=(("UST", "USDT"),)),),
    "bitstamp": (_spot(_PAIR, quotes=_WESTERN),),
    "gemini": (_spot(_PAIR, quotes=(*_WESTERN, "DAI", "GUSD", "SGD")),),
    "huobi": (_spot(_PAIR, quotes=("USDT", "USDC", "USDD", "HUSD", "BTC", "ETH", "HT", "TRX")),),
    "huobi-dm-swap": (_perp(_DASHED),),
    "huobi-dm-linear-swap": (_perp(_DASHED), _future(f"{_DASHED}-{_YMD}")),
    "gate-io": (_spot(_UNDERSCORED),),
    "gate-io-futures": (_perp(_UNDERSCORED),),
    "kucoin": (_spot(_DASHED),),
    "kucoin-futures": (_perp(f"{_PAIR}M", quotes=("USDT", "USDC", "USD"), names=(_XBT,)),),
    "bitget": (_spot(_PAIR, quotes=("USDT", "USDC", "BTC", "ETH", "EUR")),),
    "bitget-futures": (_perp(_PAIR, quotes=("USDT",)),),
    "upbit": (_spot(f"(?P<quote>{_A})-(?P<base>{_A})"),),
    "crypto-com": (_spot(_UNDERSCORED),),
    "woo-x": (_spot(f"SPOT_{_UNDERSCORED}"), _perp(f"PERP_{_UNDERSCORED}")),
    "dydx": (_perp(_DASHED),),
    "dydx-v4": (_perp(_DASHED),),
    "ftx": (_perp(f"{_BASE}-PERP", quote="USD"), _spot(_DASHED)),
    "ftx-us": (_spot(_DASHED),),
    "ascendex": (_spot(_DASHED),),
    "blockchain-com": (_spot(_DASHED),),
}


VENUES = tuple(_FORMS)
"""The venues whose symbols there are rules for."""


def file_symbol(symbol: str) -> str:
    """A symbol as the vendor's file names have it: capitals, `/` and `:` as `-`."""
    return symbol.strip().upper().replace("/", "-").replace(":", "-")


@lru_cache(maxsize=65_536)
def instrument_of(venue: str, symbol: str) -> Instrument:
    """The instrument that a venue calls by this symbol.

    Args:
        venue: the data vendor's exchange id, such as `binance-futures`.
        symbol: the venue's symbol, as in a file's name or as the venue writes it.

    Raises:
        InstrumentError: the symbol cannot be told apart; the message says why.
    """
    forms = _FORMS.get(venue)
    if forms is None:
        raise InstrumentError(f"symbol {symbol!r}: there are no rules for the symbols of venue {venue!r}")
    text = file_symbol(symbol)
    for form in forms:
        match = form.pattern.fullmatch(text)
        if match:
            return _build(venue, symbol, form, match.groupdict())
    raise InstrumentError(f"symbol {symbol!r} has none of the forms known of venue {venue!r}")


def _build(venue: str, symbol: str, form: _Form, parts: dict[str, str | None]) -> Instrument:
    if pair := parts.get("pair"):
        base, quote = _split(symbol, pair, form.quotes)
    else:
        base, quote = parts["base"] or "", parts.get("quote") or form.quote or ""
    names = dict(form.names)
    base, quote = names.get(base, base), names.get(quote, quote)
    try:
        expiry = _expiry(parts)
        strike = parts.get("strike")
        # Deribit writes the decimal point of a strike as d: XRP_USDC-27SEP24-0d55-C
        strike = strike.replace("D", ".") if strike else None
        return Instrument(venue, form.type, base, quote, expiry, strike, parts.get("side"))
    except ValueError as error:
        raise InstrumentError(f"symbol {symbol!r} of venue {venue!r}: {error}") from None


def _split(symbol: str, pair: str, quotes: tuple[str, ...]) -> tuple[str, str]:
    found = [quote for quote in sorted(quotes, key=len, reverse=True) if pair.endswith(quote) and pair != quote]
    splits = [(pair.removesuffix(quote), quote) for quote in found]
    if len(splits) > 1:
        splits = [split for split in splits if split[0] in _KNOWN]
    if len(splits) == 1:
        return splits[0]
    if found:
        raise InstrumentError(f"symbol {symbol!r} can end in any of the quote assets {' and '.join(found)}")
    raise InstrumentError(f"symbol {symbol!r} ends in none of the quote assets {', '.join(quotes)}")


def _expiry(parts: dict[str, str | None]) -> date | None:
    if ymd := parts.get("ymd"):
        return date(2000 + int(ymd[:2]), int(ymd[2:4]), int(ymd[4:]))
    if dmy := parts.get("dmy"):
        return date(2000 + int(dmy[-2:]), _month(dmy[-5:-2]), int(dmy[:-5]))
    return None


def _month(name: str) -> int:
    if name not in _MONTHS:
        raise InstrumentError(f"{name!r} is no month")
    return _MONTHS.index(name) + 1
