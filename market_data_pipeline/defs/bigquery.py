"""The lake as tables of BigQuery, kept so by dagster-gcp's client; slow to import, so only who wants them does."""

from collections.abc import Sequence

import dagster as dg
from dagster_gcp import BigQueryResource
from google.api_core.exceptions import GoogleAPIError

from market_data_pipeline.defs.newest import AT_NINE
from market_data_pipeline.defs.resources import LakeResource
from market_data_pipeline.defs.schedules import WITHOUT_DAYS
from market_data_pipeline.lake.bigquery import Warehouse, statements
from market_data_pipeline.lake.records import recorded_days
from market_data_pipeline.model.datasets import DATASETS

NAME = "bigquery_tables"
SCHEDULE = "bigquery_at_nine"


def bigquery_asset(warehouse: Warehouse, names: Sequence[str]) -> dg.AssetsDefinition:
    """All tables and table functions over what lies in the lake. It has no partitions: each run replaces all of them.

    Args:
        warehouse: where they are made.
        names: the assets that the lake is made of.
    """

    @dg.asset(
        name=NAME,
        group_name=WITHOUT_DAYS,
        kinds={"bigquery"},
        deps=list(names),
        description=f"The lake as tables of {warehouse.project}.{warehouse.dataset}: external ones over its files, and "
        "functions that read the files of the asked days alone. The files stay where they are.",
    )
    def bigquery_tables(lake: LakeResource, bigquery: BigQueryResource) -> dg.MaterializeResult[None]:
        store = lake.open()
        days = {each.name: recorded_days(store, each) for each in DATASETS.values()}
        made = list(statements(warehouse, store.uri_of, days))
        refused: dict[str, GoogleAPIError] = {}
        with bigquery.get_client() as client:
            for each in made:  # one that is refused keeps no other from its new day
                try:
                    client.query(each.text).result()
                except GoogleAPIError as error:
                    refused[each.name] = error
        if refused:
            name, why = next(iter(refused.items()))
            raise dg.Failure(
                f"BigQuery did not make {warehouse.project}.{warehouse.dataset}.{name}: {why}; {len(refused)} of "
                f"{len(made)} were refused; docs/bigquery.md tells what must be there, and which rights it takes",
                metadata={"refused": {name: str(each) for name, each in refused.items()}},
            ) from why
        functions = sum(each.function for each in made)
        newest = max((day for of_dataset in days.values() for day in of_dataset), default=None)
        return dg.MaterializeResult(
            metadata={
                "tables": len(made) - functions,
                "functions": functions,
                "newest_day": str(newest or "none"),
                "made": [each.name for each in made],
            }
        )

    return bigquery_tables


def bigquery_definitions(
    warehouse: Warehouse, names: Sequence[str], status: dg.DefaultScheduleStatus
) -> dg.Definitions:
    """The asset, its job, and a schedule for the hour at which the day before is due: tables of ticks name each day.

    Args:
        warehouse: where the tables are made.
        names: the assets that the lake is made of.
        status: whether the schedule runs from the first start on.
    """
    job = dg.define_asset_job(
        "bigquery", selection=dg.AssetSelection.assets(NAME), description="The lake's tables in BigQuery, made anew."
    )
    schedule = dg.ScheduleDefinition(
        name=SCHEDULE,
        job=job,
        cron_schedule=AT_NINE,
        execution_timezone="UTC",
        default_status=status,
        description="09:00 UTC: the lake's tables in BigQuery, with the day before.",
    )
    return dg.Definitions(
        assets=[bigquery_asset(warehouse, names)],
        jobs=[job],
        schedules=[schedule],
        resources={"bigquery": BigQueryResource(project=warehouse.project)},
    )
