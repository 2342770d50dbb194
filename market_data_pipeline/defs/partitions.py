"""Partitions and backfills: one definition of days and one backfill policy for all assets."""

from collections.abc import Sequence
from datetime import date

import dagster as dg

from market_data_pipeline.model.windows import as_day
from market_data_pipeline.settings import Settings


def daily_partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """One partition a UTC day, from MARKET_DATA_START to yesterday."""
    return dg.DailyPartitionsDefinition(start_date=settings.start.isoformat(), timezone="UTC")


def backfill_policy(settings: Settings) -> dg.BackfillPolicy:
    """A backfill is one run, or runs of MARKET_DATA_DAYS_PER_RUN days that can go to several workers."""
    if settings.days_per_run is None:
        return dg.BackfillPolicy.single_run()
    return dg.BackfillPolicy.multi_run(settings.days_per_run)


def days_of(keys: Sequence[str]) -> list[date]:
    """The days of partition keys, in order."""
    return sorted(as_day(key) for key in keys)
