"""The features and signals of candles. Look-backs are read from the lake as far as they are there."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import TypeVar

import dagster as dg

from market_data_pipeline.defs.declaring import Results, derived, lake_asset
from market_data_pipeline.defs.lineage import lineage
from market_data_pipeline.defs.metadata import waiting_notes
from market_data_pipeline.defs.model_cards import model_card
from market_data_pipeline.defs.resources import LakeResource
from market_data_pipeline.lake.fundamental import Sources, fundamental_rows
from market_data_pipeline.lake.histories import FINEST
from market_data_pipeline.lake.signals import ModelCard, signal_rows
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.technical import LookBacks, technical_rows
from market_data_pipeline.model.datasets import DATASETS, Dataset
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.rows import DayRows
from market_data_pipeline.settings import Settings

TECHNICAL = DATASETS["technical_features"]
FUNDAMENTAL = DATASETS["fundamental_features"]
SIGNALS = DATASETS["ml_signals"]
Told = TypeVar("Told")


def feature_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Indicators and order flow, what is beside the price, and signals of models that know the days before only."""

    def signals(
        store: ObjectStore, days: Sequence[date], selection: Selection, cards: dict[date, ModelCard]
    ) -> Iterator[DayRows]:
        return signal_rows(store, days, selection, settings.signals, cards)

    return [
        _asset(settings, TECHNICAL, FINEST, technical_rows, LookBacks, _look_back_notes),
        _asset(settings, FUNDAMENTAL, FINEST, fundamental_rows, Sources, _source_notes),
        _asset(settings, SIGNALS, TECHNICAL, signals, ModelCard, model_card),
    ]


def _asset(
    settings: Settings,
    dataset: Dataset,
    needed: Dataset,
    rows: Callable[[ObjectStore, Sequence[date], Selection, dict[date, Told]], Iterator[DayRows]],
    nothing: Callable[[], Told],
    notes: Callable[[Told], dict[str, object]],
) -> dg.AssetsDefinition:
    """An asset of features.

    Args:
        settings: the pipeline's.
        dataset: what is made.
        needed: a day of which is needed; all else is read as far as it is there.
        rows: makes some days' rows, and tells of each day what its metadata say.
        nothing: what is told of a day that it made nothing of.
        notes: that, as metadata.
    """

    @lake_asset(settings, dataset, deps=list(lineage(settings.signals)[dataset.name]))
    def features(context: dg.AssetExecutionContext, lake: LakeResource) -> Results:
        store, selection = lake.open(), settings.selection
        told: dict[date, Told] = {}
        yield from derived(
            context,
            store,
            [needed],
            selection,
            lambda days: rows(store, days, selection, told),
            lambda day: notes(told.get(day, nothing())),
        )

    return features


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
