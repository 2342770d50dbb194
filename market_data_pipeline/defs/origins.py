"""What each column is made from: the columns of other datasets, told beside the columns in the UI.

Dagster's own page of a column's lineage is not a part of the UI that everybody has. So what it would draw is written
into the columns' descriptions as well.
"""

from collections.abc import Iterator, Mapping, Sequence

from market_data_pipeline.model.datasets import DATASETS, LISTING_COLUMNS, TIMEFRAMES, Dataset, Kind, candles
from market_data_pipeline.transforms.inputs import INPUTS
from market_data_pipeline.transforms.signals import Recipe

Origins = Mapping[str, tuple[tuple[str, str], ...]]
"""For each column of a dataset the datasets and columns that it is made from; others come as they are from the source,
or are the path's."""

_CANDLES = tuple(candles(name).name for name in TIMEFRAMES)
_TICKS = tuple(each.name for each in DATASETS.values() if each.kind is Kind.TICKS)

_SHOWN = 6

_FROM_TRADES = {
    "timestamp": "trades.timestamp",
    "close_time": "trades.timestamp",
    **dict.fromkeys(("open", "high", "low", "close"), "trades.price"),
    "volume": "trades.amount",
    "quote_volume": "trades.price trades.amount instruments.contract_multiplier instruments.inverse",
    "trade_count": "trades.timestamp",
    "buy_volume": "trades.side trades.amount",
    "buy_quote_volume": "trades.side trades.price trades.amount instruments.contract_multiplier instruments.inverse",
    "vwap": "trades.price trades.amount instruments.contract_multiplier instruments.inverse",
    "base_volume": "trades.price trades.amount instruments.contract_multiplier instruments.inverse",
    "volume_unit": "instruments.contract_multiplier instruments.inverse",
}
_CLOSES = (
    "simple_return log_return realised_volatility_20 sma_10 sma_20 sma_50 ema_10 ema_20 ema_50 rsi_14 macd macd_signal "
    "macd_histogram bollinger_upper_20 bollinger_middle_20 bollinger_lower_20"
)
_ROWS_OF = "timeframe timestamp close_time"
_TECHNICAL = {
    **dict.fromkeys(_ROWS_OF.split(), "ohlcv.timestamp"),
    **dict.fromkeys(_CLOSES.split(), "ohlcv.close"),
    **dict.fromkeys(("atr_14", "adx_14", "stochastic_k", "stochastic_d", "cci_20"), "ohlcv.high ohlcv.low ohlcv.close"),
    "mfi_14": "ohlcv.high ohlcv.low ohlcv.close ohlcv.volume",
    "obv": "ohlcv.close ohlcv.volume",
    "vwap_distance": "ohlcv.close ohlcv.vwap",
    "buy_share": "ohlcv.buy_volume ohlcv.volume",
    "signed_volume": "ohlcv.buy_volume ohlcv.volume",
    "mean_trade_size": "ohlcv.volume ohlcv.trade_count",
    **dict.fromkeys(
        ("delay_mean", "delay_median", "delay_min", "delay_max"), "trades.timestamp trades.local_timestamp"
    ),
    **dict.fromkeys(("book_spread_bps", "book_mid"), "book.ask_price_1 book.bid_price_1"),
    "book_microprice": "book.ask_price_1 book.bid_price_1 book.ask_amount_1 book.bid_amount_1",
    "book_imbalance_1": "book.ask_amount_1 book.bid_amount_1",
    "book_imbalance_5": " ".join(f"book.{side}_amount_{level}" for side in ("ask", "bid") for level in range(1, 6)),
    **{
        f"book_{side}_depth_5": " ".join(f"book.{side}_amount_{level}" for level in range(1, 6))
        for side in ("ask", "bid")
    },
}
_TICKER, _LIQUIDATION, _TRADED = "derivative_ticker", "liquidations", "ohlcv.close ohlcv.trade_count"
_QUOTES = ("type", "strike_price", "expiration", "bid_iv", "ask_iv", "mark_iv", "delta", "underlying_price")
_SURFACE = " ".join(f"options_chain.{name}" for name in _QUOTES)
_FUNDAMENTAL = {
    **dict.fromkeys(_ROWS_OF.split(), "ohlcv.timestamp"),
    # the rate of a funding that has taken place is not that of the next one
    **{name: f"{_TICKER}.{name} {_TICKER}.funding_timestamp" for name in ("funding_rate", "predicted_funding_rate")},
    "open_interest": f"{_TICKER}.open_interest",
    "hours_to_funding": f"{_TICKER}.funding_timestamp",
    "open_interest_change": f"{_TICKER}.open_interest",
    "mark_premium": f"{_TICKER}.mark_price {_TICKER}.index_price",
    # a candle without a trade has no price to compare
    "basis": f"{_TRADED} {_TICKER}.index_price",
    "annualised_basis": f"{_TRADED} {_TICKER}.index_price instruments.expiry",
    "spot_basis": _TRADED,
    "annualised_spot_basis": f"{_TRADED} instruments.expiry",
    **{f"{side}_liquidation_count": f"{_LIQUIDATION}.side" for side in ("long", "short")},
    **{f"{side}_liquidation_volume": f"{_LIQUIDATION}.side {_LIQUIDATION}.amount" for side in ("long", "short")},
    **{f"liquidation_volume_{way}": f"{_LIQUIDATION}.amount {_TICKER}.open_interest" for way in ("rising", "falling")},
    **dict.fromkeys(("atm_iv_30d", "term_slope_30d", "atm_iv_nearest"), _SURFACE),
    **dict.fromkeys(("skew_25d_30d", "skew_25d_nearest"), _SURFACE),
    "nearest_expiry_days": "options_chain.expiration",
    "put_call_open_interest": " ".join(
        f"options_chain.{name}" for name in ("type", "strike_price", "expiration", "open_interest")
    ),
}
_OBSERVED = {
    "observed_data_types": "ticks.timestamp",
    "observed_timeframes": "ohlcv.timestamp",
    "observed": "ticks.timestamp ohlcv.timestamp features.timestamp",
    "ticks_lawful": "ticks.timestamp "
    + " ".join(f"{name}.{column}" for name in ("trades", "liquidations") for column in ("side", "price", "amount")),
    "candles_lawful": " ".join(
        f"ohlcv.{name}"
        for name in ["timestamp", "close_time", "open", "high", "low", "close", "volume", "trade_count", "buy_volume"]
    ),
}
_GROUPS: Mapping[str, tuple[str, Sequence[str]]] = {
    "ohlcv": ("ohlcv_*", _CANDLES),
    "ticks": ("all ticks", _TICKS),
    "book": ("book_snapshot_*", tuple(name for name in _TICKS if name.startswith("book_"))),
    "features": ("all features", tuple(each.name for each in DATASETS.values() if each.kind is Kind.FEATURES)),
}
"""Names that stand for several datasets: in words, and which."""


def origins(dataset: Dataset, recipe: Recipe) -> Origins:
    """What the columns of a dataset are made from, with signals made by a recipe; nothing for what comes from a source.

    Raises:
        KeyError: a column of the dataset is not told of here.
    """
    told: Mapping[str, str]
    match dataset.kind:
        case Kind.CANDLES if dataset.timeframe and dataset.timeframe.source:
            finer = candles(dataset.timeframe.source).name
            return {each.name: ((finer, each.name),) for each in dataset.columns} | {
                "close_time": ((finer, "timestamp"),),
                "vwap": ((finer, "quote_volume"), (finer, "base_volume")),
            }
        case Kind.CANDLES:
            told = _FROM_TRADES
        case Kind.AVAILABILITY:
            told = {each.name: f"instruments.{each.name}" for each in LISTING_COLUMNS} | _OBSERVED
        case Kind.FEATURES:
            told = _features(dataset.name, recipe)
        case _:
            return {}
    return {each.name: tuple(_named(told[each.name])) for each in dataset.columns}


def in_words(columns: Sequence[tuple[str, str]]) -> str:
    """Some columns that one is made from, for people: `trades.price`, `ohlcv_*.close`, and no more than some."""
    left = dict.fromkeys(columns)
    words: list[str] = []
    for name, column in columns:
        if (name, column) in left:
            # the first group whose datasets all have the column
            groups = (each for each in _GROUPS.values() if name in each[1])
            whole = (each for each in groups if left.keys() >= {(of, column) for of in each[1]})
            label, group = next(whole, (name, (name,)))
            words.append(f"{label}.{column}")
            for each in group:
                del left[each, column]
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more


def _features(name: str, recipe: Recipe) -> Mapping[str, str]:
    if name == "technical_features":
        return _TECHNICAL
    if name == "fundamental_features":
        return _FUNDAMENTAL
    if name != "ml_signals":
        raise KeyError(f"{name}: tell in defs/origins.py what its columns are made from")
    scored = candles(recipe.timeframe.name)
    features = [DATASETS[each] for each in ("technical_features", "fundamental_features")]
    having = {column.name: each.name for each in (scored, *reversed(features)) for column in each.columns}
    having |= {column.name: scored.name for column in scored.columns}
    seen = dict.fromkeys(column for each in INPUTS for column in each.columns)
    inputs = " ".join(f"{having[column]}.{column}" for column in seen)
    # what a label says of a candle, and whether it may be learned from
    labels = [*(f"{scored.name}.{name}" for name in ("timestamp", "high", "low", "close", "trade_count"))]
    labels.append("technical_features.realised_volatility_20")
    learned = " ".join([inputs, *labels])
    row = dict.fromkeys(_ROWS_OF.split(), f"{scored.name}.timestamp")
    return row | {
        **dict.fromkeys(("probability", "position", "model"), learned),
        **dict.fromkeys(("train_from", "train_to", "train_rows"), " ".join(labels)),
    }


def _named(text: str) -> Iterator[tuple[str, str]]:
    """The datasets and columns of `dataset.column …`, in order, each once; some names stand for several datasets."""
    found = (part.split(".") for part in text.split())
    pairs = ((each, column) for name, column in found for each in _GROUPS.get(name, ("", (name,)))[1])
    yield from dict.fromkeys(pairs)
