"""Asset checks on what lies in the lake. On a range each day has its result."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from market_data_pipeline.defs.partitions import daily_partitions, days_of
from market_data_pipeline.defs.resources import LakeResource
from market_data_pipeline.lake.checked import Finding, candle_problems, kline_problems, volume_problems
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import TIMEFRAMES, Timeframe, candles
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.settings import Settings
from market_data_pipeline.sources.contract import KlineSource, Source

Problems = Callable[[ObjectStore, Timeframe, Sequence[date], Selection], Iterator[Finding]]
FINDINGS = "findings"
"""The metadata entry that holds every finding, while a description holds the first few."""
_SHOWN, _KEPT = 20, 1_000


def build_checks(settings: Settings, source: Source) -> list[dg.AssetChecksDefinition]:
    """The checks of all candles; where the source has the exchange's own, ours are compared with them."""
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
    return checks


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
    log_event: Callable[[Any], None], asset: str, name: str, problems: Mapping[date, Sequence[Finding]]
) -> dg.AssetCheckResult:
    """The result of a check for the days of a run; it passes where no day has a problem.

    What is only outdated is a warning.

    One day's result belongs to its partition. For a range Dagster takes one result, of no partition, and would show the
    days as skipped: so each is told by an event of its own first.

    Args:
        log_event: the context's way to record an event.
        asset: the asset's name.
        name: the check's name.
        problems: what is wrong, for each day of the run.
    """
    if len(problems) > 1:
        for day, of_day in problems.items():
            log_event(
                dg.AssetCheckEvaluation(
                    asset_key=dg.AssetKey(asset),
                    check_name=name,
                    passed=not of_day,
                    severity=_severity(of_day),
                    description=_text(of_day),
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
        description=_text(found),
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
    outdated = found and all(each.outdated for each in found)
    return dg.AssetCheckSeverity.WARN if outdated else dg.AssetCheckSeverity.ERROR


def _text(found: Sequence[Finding]) -> str | None:
    """The findings as lines, what is wrong before what is only outdated."""
    lines = [each.text for each in sorted(found, key=lambda each: each.outdated)]
    more = [f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n".join([*lines[:_SHOWN], *more]) or None
