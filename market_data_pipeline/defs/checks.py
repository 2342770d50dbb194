"""Asset checks on what lies in the lake. On a range each day has its result."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from market_data_pipeline.defs.partitions import daily_partitions, days_of
from market_data_pipeline.defs.resources import LakeResource
from market_data_pipeline.lake.checked import Finding, candle_problems, kline_problems, volume_problems
from market_data_pipeline.lake.quality import quality_problems
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES, Dataset, Kind, Timeframe, candles
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.settings import Settings
from market_data_pipeline.sources.contract import KlineSource, Source
from market_data_pipeline.transforms.quality import FLAWS

Problems = Callable[[ObjectStore, Timeframe, Sequence[date], Selection], Iterator[Finding]]
FINDINGS = "findings"
"""The metadata entry that holds every finding, while a description holds the first few."""
QUALITY_CHECK = "quality"
_SHOWN, _KEPT = 20, 1_000


def build_checks(settings: Settings, source: Source) -> list[dg.AssetChecksDefinition]:
    """The checks of all candles and ticks; where the source has the exchange's own candles, ours are compared."""
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
    checks = [
        _check(settings, timeframe, name, description, problems)
        for timeframe in TIMEFRAMES.values()
        for name, (description, problems) in kinds.items()
    ]
    if isinstance(source, KlineSource):
        klines = source.klines
        description = "every 1m candle equals the exchange's own, field by field"

        def compared(store: ObjectStore, _: Timeframe, days: Sequence[date], selection: Selection) -> Iterator[Finding]:
            return kline_problems(store, klines, days, selection)

        checks.append(_check(settings, TIMEFRAMES["1m"], "equals_the_exchanges_own", description, compared))
    given = [DATASETS[name] for name in FLAWS if name in source.data_types or DATASETS[name].kind is Kind.CANDLES]
    return [*checks, *(_quality(settings, dataset) for dataset in given)]


def _quality(settings: Settings, dataset: Dataset) -> dg.AssetChecksDefinition:
    """One check for all that may be odd, since the file is then read once."""
    flaws = FLAWS[dataset.name]

    @dg.asset_check(
        asset=dataset.name,
        name=QUALITY_CHECK,
        description=f"Nothing is odd about a day: {', '.join(flaws)}. Thresholds: MARKET_DATA_QUALITY_….",
        partitions_def=daily_partitions(settings),
        # only a finding of a flaw that blocks is an error, and only an error stops what follows
        blocking=not settings.blocking.isdisjoint(flaws),
    )
    def check(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
        days, store = days_of(context.partition_keys), lake.open()
        found = {
            day: list(
                quality_problems(store, dataset, [day], settings.selection, settings.thresholds, settings.blocking)
            )
            for day in days
        }
        return day_results(context.op_execution_context.log_event, dataset.name, QUALITY_CHECK, found)

    return check


def _check(
    settings: Settings, timeframe: Timeframe, name: str, description: str, problems: Problems
) -> dg.AssetChecksDefinition:
    asset = candles(timeframe.name).name

    @dg.asset_check(asset=asset, name=name, description=description, partitions_def=daily_partitions(settings))
    def check(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> dg.AssetCheckResult:
        days, store = days_of(context.partition_keys), lake.open()
        found = {day: list(problems(store, timeframe, [day], settings.selection)) for day in days}
        return day_results(context.op_execution_context.log_event, asset, name, found)

    return check


def day_results(
    log_event: Callable[[Any], None],
    asset: str,
    name: str,
    problems: Mapping[date, Sequence[Finding]],
    advice: str = "",
) -> dg.AssetCheckResult:
    """The result of a check for the days of a run; it passes where no day has a problem.

    What is only outdated or odd is a warning.

    One day's result belongs to its partition. For a range Dagster takes one result, of no partition, and would show the
    days as skipped: so each is told by an event of its own first.

    Args:
        log_event: the context's way to record an event.
        asset: the asset's name.
        name: the check's name.
        problems: what is wrong, for each day of the run.
        advice: what to do where anything is.
    """
    if len(problems) > 1:
        for day, of_day in problems.items():
            log_event(
                dg.AssetCheckEvaluation(
                    asset_key=dg.AssetKey(asset),
                    check_name=name,
                    passed=not of_day,
                    severity=_severity(of_day),
                    description=_text(of_day, advice),
                    metadata={"problems": dg.MetadataValue.int(len(of_day))},
                    partition=day.isoformat(),
                )
            )
    found = [problem for of_day in problems.values() for problem in of_day]
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=name,
        passed=not found,
        severity=_severity(found),
        description=_text(found, advice),
        metadata={
            "days": len(problems),
            "problems": len(found),
            FINDINGS: dg.MetadataValue.json(
                [
                    {"day": day.isoformat(), "text": each.text, "follows": each.follows}
                    for day, of_day in problems.items()
                    for each in of_day[:_KEPT]
                ]
            ),
        },
    )


def _severity(found: Sequence[Finding]) -> dg.AssetCheckSeverity:
    warns = found and all(each.warns for each in found)
    return dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR


def _text(found: Sequence[Finding], advice: str) -> str | None:
    """The findings as lines, what is wrong before what is only outdated or odd."""
    lines = [each.text for each in sorted(found, key=lambda each: each.warns)]
    more = [f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n".join([*lines[:_SHOWN], *more, *filter(None, [advice])]) if found else None
