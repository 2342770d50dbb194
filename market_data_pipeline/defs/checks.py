"""Asset checks on what lies in the lake. On a range one evaluation names the days that fail."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from itertools import islice

import dagster as dg

from market_data_pipeline.defs.partitions import daily_partitions, days_of
from market_data_pipeline.defs.resources import LakeResource
from market_data_pipeline.lake.checked import candle_problems, volume_problems
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import TIMEFRAMES, Timeframe, candles
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.settings import Settings

Problems = Callable[[ObjectStore, Timeframe, Sequence[date], Selection], Iterator[str]]
_SHOWN = 50


def build_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """The checks of all candles."""
    kinds: dict[str, tuple[str, Problems]] = {
        "candle_laws": (
            "low <= open, close <= high; times rising, on the grid and inside the day; nothing negative",
            candle_problems,
        ),
        "volume_kept": (
            "volume and number of trades are those of the ticks (or finer candles) that the candles were made from",
            volume_problems,
        ),
    }
    return [
        _check(settings, timeframe, name, description, problems)
        for timeframe in TIMEFRAMES.values()
        for name, (description, problems) in kinds.items()
    ]


def _check(
    settings: Settings, timeframe: Timeframe, name: str, description: str, problems: Problems
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=candles(timeframe.name).name,
        name=name,
        description=description,
        partitions_def=daily_partitions(settings),
    )
    def check(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
        days = days_of(context.partition_keys)
        found = list(islice(problems(lake.open(), timeframe, days, settings.selection), _SHOWN))
        return dg.AssetCheckResult(
            passed=not found,
            severity=dg.AssetCheckSeverity.ERROR,
            description="\n".join(found) or None,
            metadata={"days": len(days), "problems": len(found)},
        )

    return check
