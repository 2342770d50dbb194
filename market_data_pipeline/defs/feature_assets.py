"""The features and signals of candles. Look-backs are read from the lake as far as they are there."""

from datetime import date

import dagster as dg

from market_data_pipeline.defs.declaring import Results, derived, lake_asset
from market_data_pipeline.defs.metadata import waiting_notes
from market_data_pipeline.defs.model_cards import model_card
from market_data_pipeline.defs.resources import LakeResource
from market_data_pipeline.lake.derived import TRADES
from market_data_pipeline.lake.fundamental import LIQUIDATIONS, OPTIONS, TICKERS, Sources, fundamental_rows
from market_data_pipeline.lake.histories import FINEST
from market_data_pipeline.lake.master import INSTRUMENTS
from market_data_pipeline.lake.signals import ModelCard, signal_rows
from market_data_pipeline.lake.technical import BOOKS, LookBacks, technical_rows
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES, candles
from market_data_pipeline.settings import Settings

CANDLES = tuple(candles(name) for name in TIMEFRAMES)
TECHNICAL = DATASETS["technical_features"]
FUNDAMENTAL = DATASETS["fundamental_features"]
SIGNALS = DATASETS["ml_signals"]
FEATURES = (TECHNICAL, FUNDAMENTAL)


def feature_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of all features."""
    return [technical_asset(settings), fundamental_asset(settings), signal_asset(settings)]


def technical_asset(settings: Settings) -> dg.AssetsDefinition:
    """Indicators, order flow and book of candles."""

    @lake_asset(settings, TECHNICAL, deps=[each.name for each in (TRADES, *BOOKS, *CANDLES)])
    def technical(context: dg.AssetExecutionContext, lake: LakeResource) -> Results:
        store, selection = lake.open(), settings.selection
        look_backs: dict[date, LookBacks] = {}
        yield from derived(
            context,
            store,
            [FINEST],
            selection,
            lambda days: technical_rows(store, days, selection, look_backs),
            lambda day: _look_back_notes(look_backs.get(day, LookBacks())),
        )

    return technical


def fundamental_asset(settings: Settings) -> dg.AssetsDefinition:
    """Funding, basis, open interest, liquidations and options beside candles."""

    @lake_asset(
        settings,
        FUNDAMENTAL,
        deps=[each.name for each in (*CANDLES, TICKERS, LIQUIDATIONS, OPTIONS, INSTRUMENTS)],
    )
    def fundamental(context: dg.AssetExecutionContext, lake: LakeResource) -> Results:
        store, selection = lake.open(), settings.selection
        sources: dict[date, Sources] = {}
        yield from derived(
            context,
            store,
            [FINEST],
            selection,
            lambda days: fundamental_rows(store, days, selection, sources),
            lambda day: _source_notes(sources.get(day, Sources())),
        )

    return fundamental


def signal_asset(settings: Settings) -> dg.AssetsDefinition:
    """Probabilities and positions from models that know the days before only."""
    recipe = settings.signals
    inputs = (*FEATURES, candles(recipe.timeframe.name))

    @lake_asset(settings, SIGNALS, deps=[each.name for each in inputs])
    def signalled(context: dg.AssetExecutionContext, lake: LakeResource) -> Results:
        store, selection = lake.open(), settings.selection
        cards: dict[date, ModelCard] = {}
        yield from derived(
            context,
            store,
            [TECHNICAL],
            selection,
            lambda days: signal_rows(store, days, selection, recipe, cards),
            lambda day: model_card(cards.get(day, ModelCard())),
        )

    return signalled


def _look_back_notes(look_backs: LookBacks) -> dict[str, object]:
    return {
        "look_back_candles_missing": sum(look_backs.missing.values()),
        "look_back_candles_missing_by_timeframe": dg.MetadataValue.json(dict(look_backs.missing)),
        "instruments_without_a_full_look_back": look_backs.instruments,
        "instruments_with_a_book": look_backs.books,
        **waiting_notes(look_backs.waiting),
    }


def _source_notes(sources: Sources) -> dict[str, object]:
    notes: dict[str, object] = {
        "instruments_with_a_ticker": len(sources.tickers),
        "instruments_with_liquidations": len(sources.liquidations),
        "instruments_with_a_spot_pair": len(sources.spots),
        "instruments_with_a_surface": len(sources.surfaces),
        "look_backs_missing": len(sources.tickers_without_day_before) + len(sources.options_without_day_before),
        **waiting_notes(sources.waiting),
    }
    named = {
        "taken_to_have_no_liquidations": sources.none_liquidated,
        "tickers_missing_on_the_day_before": sources.tickers_without_day_before,
        "options_missing_on_the_day_before": sources.options_without_day_before,
    }
    return notes | {name: dg.MetadataValue.json(list(names)) for name, names in named.items() if names}
