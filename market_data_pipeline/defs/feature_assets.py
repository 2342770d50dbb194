"""The features and signals of candles. Look-backs are read from the lake as far as they are there."""

from datetime import date

import dagster as dg

from market_data_pipeline.defs.declaring import Results, derived, lake_asset
from market_data_pipeline.defs.model_cards import model_card
from market_data_pipeline.defs.resources import LakeResource
from market_data_pipeline.lake.derived import TRADES
from market_data_pipeline.lake.histories import FINEST
from market_data_pipeline.lake.signals import ModelCard, signal_rows
from market_data_pipeline.lake.technical import LookBacks, technical_rows
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES, candles
from market_data_pipeline.settings import Settings

CANDLES = tuple(candles(name) for name in TIMEFRAMES)
TECHNICAL = DATASETS["technical_features"]
SIGNALS = DATASETS["ml_signals"]
FEATURES = (TECHNICAL, SIGNALS)


def feature_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of all features."""
    return [technical_asset(settings), signal_asset(settings)]


def technical_asset(settings: Settings) -> dg.AssetsDefinition:
    """Indicators and order flow of candles."""

    @lake_asset(settings, TECHNICAL, deps=[each.name for each in (TRADES, *CANDLES)])
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


def signal_asset(settings: Settings) -> dg.AssetsDefinition:
    """Probabilities and positions from models that know the days before only."""
    recipe = settings.signals
    inputs = (*(each for each in FEATURES if each is not SIGNALS), candles(recipe.timeframe.name))

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
    }
