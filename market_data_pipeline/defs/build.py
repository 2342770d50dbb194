"""All definitions of the pipeline for some settings."""

import dagster as dg

from market_data_pipeline.defs.alerts import alerts_sensor
from market_data_pipeline.defs.assets import build_assets
from market_data_pipeline.defs.checks import build_checks
from market_data_pipeline.defs.corrections import corrections_sensor
from market_data_pipeline.defs.declaring import IO_MANAGER
from market_data_pipeline.defs.executing import executor
from market_data_pipeline.defs.io_manager import LakeIOManager
from market_data_pipeline.defs.lineage import lineage
from market_data_pipeline.defs.missing import missing_sensor
from market_data_pipeline.defs.newest import newest_day_check, newest_day_schedule
from market_data_pipeline.defs.resources import LakeResource
from market_data_pipeline.defs.schedules import daily_job, daily_schedule
from market_data_pipeline.defs.watching import Watch
from market_data_pipeline.settings import Automatic, Settings
from market_data_pipeline.sources import open_source
from market_data_pipeline.sources.contract import Source, WatchedSource


def build_definitions(settings: Settings, source: Source | None = None) -> dg.Definitions:
    """Assets, checks, job, schedule and resources for some settings.

    Args:
        settings: what the pipeline depends on.
        source: where ticks come from, instead of the one that the settings name.
    """
    opened = source if source is not None else open_source(settings.source, settings.source_path, settings.remote)
    lake = _lake(settings)
    job = daily_job()
    assets = build_assets(settings, opened)
    made = [asset.key.path[-1] for asset in assets if isinstance(asset, dg.AssetsDefinition)]
    made_from = lineage(settings.signals)
    schedule_status, sensor_status = dg.DefaultScheduleStatus, dg.DefaultSensorStatus
    daily = schedule_status.RUNNING if Automatic.DAILY in settings.automatic else schedule_status.STOPPED

    def status(automatic: Automatic) -> dg.DefaultSensorStatus:
        return sensor_status.RUNNING if automatic in settings.automatic else sensor_status.STOPPED

    defs = dg.Definitions(
        assets=assets,
        asset_checks=[*build_checks(settings, opened), newest_day_check(made)],
        jobs=[job],
        schedules=[daily_schedule(job, daily), newest_day_schedule(daily)],
        sensors=[
            corrections_sensor(
                job,
                made_from,
                settings.selection,
                _watch(settings, opened),
                status(Automatic.CORRECTIONS),
            ),
            missing_sensor(job, settings, opened, made_from, made, status(Automatic.MISSING_DAYS)),
            *([alerts_sensor(settings.webhook)] if settings.webhook else []),
        ],
        resources={"lake": lake, IO_MANAGER: LakeIOManager(lake=lake), "source": opened},
        executor=executor(settings.step_pods),
    )
    if settings.bigquery is None:
        return defs
    from market_data_pipeline.defs.bigquery import bigquery_definitions

    return dg.Definitions.merge(defs, bigquery_definitions(settings.bigquery, made, daily))


def _watch(settings: Settings, source: Source) -> Watch | None:
    """What looks at the source, where it can tell of changes."""
    return Watch(source, source.data_types, settings.selection) if isinstance(source, WatchedSource) else None


def _lake(settings: Settings) -> LakeResource:
    """The lake of the settings; Google's libraries are loaded only for a lake on Google Cloud Storage."""
    if settings.lake.startswith("gs:"):
        from market_data_pipeline.defs.gcs import gcs_lake_resource

        return gcs_lake_resource(settings)
    return LakeResource(url=settings.lake, buckets=dict(settings.buckets))
