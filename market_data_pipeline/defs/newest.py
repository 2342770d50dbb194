"""Whether the newest day is there: a check on it, the hour at which it is looked at, and how fresh assets are to be."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from market_data_pipeline.lake.derived import AVAILABILITY
from market_data_pipeline.model.windows import DAY, days_between

CHECK = "newest_day"
AT_NINE = "0 9 * * *"
"""The hour, UTC, at which the day before is due, for cron."""
SCHEDULE = "newest_day_at_nine"
_DUE = timedelta(hours=9)
"""When the day before is due, after 00:00 UTC: two hours after the daily schedule."""
_KEPT = 31
_SHOWN = 5


def newest_due(now: datetime) -> date:
    """The newest day that should be there; `now` is in UTC."""
    return (now - _DUE).date() - DAY


def freshness() -> dg.FreshnessPolicy:
    """What the UI calls fresh: materialized between midnight and 09:00 UTC, of whatever day; a check looks at which."""
    return dg.FreshnessPolicy.cron(deadline_cron=AT_NINE, lower_bound_delta=_DUE)


def newest_day_check(names: Sequence[str]) -> dg.AssetChecksDefinition:
    """A check on the newest day of all assets, on the last of them. It warns: nothing that is there is wrong.

    Args:
        names: the assets that can be materialized.
    """

    @dg.asset_check(
        asset=AVAILABILITY.name,
        name=CHECK,
        description="The newest day that is due (09:00 UTC on the next) is there, of every asset that is kept from day "
        f"to day: that has any of the {_KEPT} days before.",
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        due = newest_due(datetime.now(UTC))
        instance = context.op_execution_context.instance
        before = list(days_between(due - _KEPT * DAY, due - DAY))
        without = [name for name in names if not _any_of(instance, name, [due])]
        missing = [name for name in without if _any_of(instance, name, before)]
        return dg.AssetCheckResult(
            passed=not missing,
            severity=dg.AssetCheckSeverity.WARN,
            description=_told(due, missing, kept=len(names) - len(without) + len(missing)),
            metadata={"newest_day": due.isoformat(), "assets_without_it": len(missing)},
        )

    return check


def _told(due: date, missing: Sequence[str], *, kept: int) -> str:
    if not kept:
        return f"not kept from day to day: neither {due} nor any of the {_KEPT} days before is there"
    if not missing:
        return f"{due} is there"
    others = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return (
        f"{due} is missing of {', '.join(missing[:_SHOWN])}{others}: see how its run ended, or start it: "
        f"make materialize DAY={due}"
    )


def _any_of(instance: dg.DagsterInstance, name: str, days: Sequence[date]) -> bool:
    wanted = dg.AssetRecordsFilter(dg.AssetKey(name), asset_partitions=[day.isoformat() for day in days])
    return bool(instance.fetch_materializations(wanted, 1).records)


def newest_day_schedule(status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    """Looks at the newest day every morning, whether a run of the day took place or not."""
    job = dg.define_asset_job(
        "look_at_the_newest_day",
        selection=dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey(AVAILABILITY.name), CHECK)),
        description="Whether the newest day that is due is there.",
    )
    return dg.ScheduleDefinition(
        name=SCHEDULE,
        job=job,
        cron_schedule=AT_NINE,
        execution_timezone="UTC",
        default_status=status,
        description="09:00 UTC: is the day before there?",
    )
