"""The command that hands the lake to another database: the statements that make it tables of BigQuery."""

from collections.abc import Sequence

import click

from market_data_pipeline.lake.bigquery import Warehouse, require_cloud, statements
from market_data_pipeline.model.datasets import DATASETS, dataset
from market_data_pipeline.model.errors import DatasetError, SettingError
from market_data_pipeline.settings import Settings
from market_data_pipeline.terminal import plainly


@click.command(short_help="Print statements for BigQuery.")
@click.argument("names", nargs=-1, metavar="[DATASET]...")
@click.option("--project", default="", help="The Google Cloud project; as in the settings by default.")
@click.option("--dataset", "target", default="", help="The dataset of BigQuery; likewise.")
@click.option(
    "--connection",
    metavar="LOCATION.NAME",
    help="By which BigQuery reads the buckets; likewise.",
)
@plainly
def bigquery(names: Sequence[str], project: str, target: str, connection: str | None) -> None:
    """Print the statements that make each DATASET (all by default) tables and table functions of BigQuery.

    They are only printed, for `bq query --use_legacy_sql=false`; with MARKET_DATA_BIGQUERY an asset keeps them up to
    date. Those of ticks name each day that lies in the lake.
    """
    from market_data_pipeline.lake.records import recorded_days

    settings = Settings.load()
    require_cloud(settings.lake)
    warehouse = _warehouse(settings.bigquery, project, target, connection)
    chosen = [dataset(name) for name in dict.fromkeys(names)] or list(DATASETS.values())
    store = settings.open_store()
    made = list(statements(warehouse, store.uri_of, {each.name: recorded_days(store, each) for each in chosen}))
    if not made:
        raise DatasetError(
            f"{store.uri} has no day on record of {', '.join(each.name for each in chosen)} to make tables of; "
            "`market-data ls` tells what lies there, and `market-data repair` records it"
        )
    for each in made:
        click.echo(f"{each.text};\n")


def _warehouse(known: Warehouse | None, project: str, target: str, connection: str | None) -> Warehouse:
    """What the options say; what they do not, as in the settings."""
    if known:
        return Warehouse(
            project or known.project,
            target or known.dataset,
            known.connection if connection is None else connection,
        )
    if not (project and target):
        raise SettingError("where are the tables to be? give --project and --dataset, or set MARKET_DATA_BIGQUERY")
    return Warehouse(project, target, connection or "")
