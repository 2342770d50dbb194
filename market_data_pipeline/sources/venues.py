"""What the amounts of each venue count: the built-in contract rules. A mapping file adds to them and overrides them."""

from market_data_pipeline.model.contracts import LINEAR, Contract, VolumeUnit
from market_data_pipeline.model.instruments import Instrument, InstrumentType

_DOLLARS = Contract(inverse=True, multiplier=1.0, unit=VolumeUnit.QUOTE)
_INVERSE_CONTRACTS = Contract(inverse=True, multiplier=None, unit=VolumeUnit.CONTRACTS)
_CONTRACTS = Contract(multiplier=None, unit=VolumeUnit.CONTRACTS)
_TEN_DOLLARS = Contract(inverse=True, multiplier=10.0, unit=VolumeUnit.CONTRACTS)
_HUNDRED_DOLLARS = Contract(inverse=True, multiplier=100.0, unit=VolumeUnit.CONTRACTS)

# perpetuals and futures: (quoted in USD, quoted in anything else)
_DERIVATIVES = {
    "binance-delivery": (_TEN_DOLLARS, LINEAR),
    "bitmex": (_CONTRACTS, _CONTRACTS),
    "bybit": (_DOLLARS, LINEAR),
    "deribit": (_DOLLARS, LINEAR),
    "gate-io-futures": (_INVERSE_CONTRACTS, _CONTRACTS),
    "huobi-dm": (_INVERSE_CONTRACTS, _CONTRACTS),
    "huobi-dm-linear-swap": (_CONTRACTS, _CONTRACTS),
    "huobi-dm-swap": (_INVERSE_CONTRACTS, _CONTRACTS),
    "kucoin-futures": (_INVERSE_CONTRACTS, _CONTRACTS),
    "okex-futures": (_INVERSE_CONTRACTS, _CONTRACTS),
    "okex-swap": (_INVERSE_CONTRACTS, _CONTRACTS),
}
# the same, where one pair has a rule of its own
_PAIRS = {
    ("binance-delivery", "BTC", "USD"): _HUNDRED_DOLLARS,
    ("bitmex", "BTC", "USD"): _DOLLARS,
}
_OPTIONS = {"okex-options": _CONTRACTS}


def contract_of(instrument: Instrument) -> Contract:
    """The built-in rule for an instrument; linear in the base asset where no rule is known.

    Binance's coin-margined contracts are 100 USD for BTC and 10 USD for the others. Deribit's and Bybit's USD
    perpetuals and futures, and BitMEX's BTC-USD, count dollars. BitMEX's other contracts are quanto or have a size of
    their own, and OKX, Huobi, Gate and KuCoin count contracts, all of sizes that the symbol does not tell: their
    multiplier is None until the mapping file gives it. Deribit's options count the base asset; those on BTC-USD and
    ETH-USD are priced in it too, so their quote values are in it.
    """
    if instrument.type is InstrumentType.SPOT:
        return LINEAR
    if instrument.type is InstrumentType.OPTION:
        return _OPTIONS.get(instrument.venue, LINEAR)
    pair = _PAIRS.get((instrument.venue, instrument.base, instrument.quote))
    if pair is not None:
        return pair
    in_dollars, other = _DERIVATIVES.get(instrument.venue, (LINEAR, LINEAR))
    return in_dollars if instrument.quote == "USD" else other
