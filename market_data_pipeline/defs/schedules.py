"""When the pipeline runs by itself: every day at 07:00 UTC for the day before, which vendors have ready by 06:00."""

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition


WITHOUT_DAYS = "bigquery"
"""The group of what has no partitions."""


def daily_job() -> "UnresolvedAssetJobDefinition":
    """All assets and checks of one day."""
    return dg.define_asset_job(
        "daily",
        selection=dg.AssetSelection.all() - dg.AssetSelection.groups(WITHOUT_DAYS),
        description="Everything of one day: ticks, candles, the availability map and their checks.",
    )


def daily_schedule(job: "UnresolvedAssetJobDefinition", status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    """Starts the daily job at 07:00 UTC for the day before; `status` is whether from the first start on."""
    # it becomes a ScheduleDefinition once the job's partitions are known
    return dg.build_schedule_from_partitioned_job(  # type: ignore[return-value]
        job,
        name="daily_at_seven",
        hour_of_day=7,
        minute_of_hour=0,
        default_status=status,
        # of what waits in the queue it goes first: a backfill of years can wait for a day, the morning cannot for years
        tags={"dagster/priority": "1"},
        description="07:00 UTC, for the day before.",
    )
