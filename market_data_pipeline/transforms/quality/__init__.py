"""What is odd about a day of ticks or candles, by rules that look at rows once, in pieces. Reads nothing itself.

Laws (`transforms.laws`) must hold; what is odd here may be true all the same, so thresholds say what is worth a look.
"""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from market_data_pipeline.model.datasets import Dataset, Kind
from market_data_pipeline.model.instruments import Instrument, InstrumentType
from market_data_pipeline.transforms.quality.bars import CandleJumps, FlatPrices
from market_data_pipeline.transforms.quality.books import Book
from market_data_pipeline.transforms.quality.ids import Ids
from market_data_pipeline.transforms.quality.prices import NotPositive, TradeJumps
from market_data_pipeline.transforms.quality.terms import Flaw, Oddity, Rule, Thresholds, setting
from market_data_pipeline.transforms.quality.times import Gaps, Life, Order

__all__ = ["FLAWS", "Flaw", "Life", "Oddity", "Thresholds", "columns_of", "oddities", "rules_of", "setting"]

_BOOKS = {"book_snapshot_5": 5, "book_snapshot_25": 25}
_OF_BOOKS = (Flaw.CROSSED_BOOKS, Flaw.ONE_SIDED_BOOKS, Flaw.LEVEL_ORDER)
FLAWS: dict[str, tuple[Flaw, ...]] = {
    "trades": (Flaw.DUPLICATE_IDS, Flaw.MISSING_IDS, Flaw.OUT_OF_ORDER, Flaw.GAPS, Flaw.PRICE_JUMPS, Flaw.NOT_POSITIVE),
    # liquidations come when prices run, at prices of their own, so they have neither rhythm nor path
    "liquidations": (Flaw.DUPLICATE_IDS, Flaw.OUT_OF_ORDER, Flaw.NOT_POSITIVE),
    "book_snapshot_5": (*_OF_BOOKS, Flaw.OUT_OF_ORDER, Flaw.GAPS),
    "book_snapshot_25": (*_OF_BOOKS, Flaw.OUT_OF_ORDER, Flaw.GAPS),
    "derivative_ticker": (Flaw.OUT_OF_ORDER, Flaw.GAPS),
    "options_chain": (Flaw.OUT_OF_ORDER, Flaw.GAPS),
    "ohlcv_1m": (Flaw.PRICE_JUMPS, Flaw.FLAT_PRICES),
}
"""What is looked for, by dataset; coarser candles are made from the finest, so they tell nothing new."""


def rules_of(dataset: Dataset, instrument: Instrument, life: Life, thresholds: Thresholds) -> list[Rule]:
    """The rules for one instrument's day of a dataset that stands in FLAWS."""
    if dataset.kind is Kind.CANDLES:
        return [CandleJumps(life, thresholds), FlatPrices(life, thresholds)]
    rules: list[Rule] = [Order(thresholds)]
    if Flaw.GAPS in FLAWS[dataset.name]:
        rules.append(Gaps(life, thresholds))
    if Flaw.NOT_POSITIVE in FLAWS[dataset.name]:
        rules += [NotPositive(), Ids(thresholds)]
    if Flaw.PRICE_JUMPS in FLAWS[dataset.name]:
        rules.append(TradeJumps(life, thresholds))
    if dataset.name in _BOOKS:
        two_sided = instrument.type is not InstrumentType.OPTION
        rules.append(Book(_BOOKS[dataset.name], thresholds, two_sided=two_sided))
    return rules


def columns_of(rules: Iterable[Rule]) -> list[str]:
    """The columns that the rules read between them."""
    return list(dict.fromkeys(name for rule in rules for name in rule.columns))


def oddities(rules: Iterable[Rule], pieces: Iterable[pa.Table]) -> Iterator[Oddity]:
    """What the rules find in a day's rows, which come in pieces in the order of their file."""
    looking = list(rules)
    for rows in pieces:
        for rule in looking:
            rule.add(rows)
    for rule in looking:
        yield from rule.found()
