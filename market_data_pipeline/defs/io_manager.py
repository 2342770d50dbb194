"""The IO manager: writes an asset's stream of rows into every layout, and hands the lake to the assets that read it.

Dagster calls `handle_output` with the value that an asset gave out: for one partition or for a range of them. The rows
are read there, one instrument's day after the other, so that a day never has to fit into memory.
"""

from collections.abc import Sequence
from datetime import date

import dagster as dg

from market_data_pipeline.defs.metadata import partition_metadata
from market_data_pipeline.defs.partitions import days_of
from market_data_pipeline.defs.progress import Teller
from market_data_pipeline.defs.recorded import recorded
from market_data_pipeline.defs.resources import LakeResource
from market_data_pipeline.defs.streams import RowStream
from market_data_pipeline.lake.day_files import DayFile, Failure
from market_data_pipeline.lake.glances import glances
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.verified import verify_days
from market_data_pipeline.lake.writer import WriteReport, write_days
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.errors import MarketDataError
from market_data_pipeline.model.windows import by_month

_SHOWN = 200
_SIDE_INPUTS = tuple(each for each in DATASETS.values() if each.from_source and each.name != "trades")
"""What a day can do without: its check tells of it, and candles and the map are made all the same."""


class LakeIOManager(dg.ConfigurableIOManager):
    """Keeps assets in the lake's layouts.

    Attributes:
        lake: where they are kept.
    """

    lake: dg.ResourceDependency[LakeResource]

    def handle_output(self, context: dg.OutputContext, obj: RowStream) -> None:
        """Writes the stream; instruments that cannot be read are reported, and the others land.

        Days of which nothing could be read are not recorded as materialized, so that a backfill shows them as missing.

        Raises:
            dagster.Failure: nothing at all could be read of trades, or of what is made from the lake; or the lake
                cannot be written. What follows goes on without the master or another type of ticks.
        """
        days = days_of(context.asset_partition_keys)
        dataset = DATASETS[context.asset_key.path[-1]]
        count = Teller(dataset.name, days, context.log)

        def tell(done: DayFile | Failure) -> None:
            count(done)
            if isinstance(done, Failure):
                (context.log.info if done.kept else context.log.warning)("%s", done)

        try:
            store = self.lake.open()
            report = write_days(store, dataset, days, obj.selection, obj, progress=tell)
            # here, where the lake is at hand: a step of its own would cost more than the looking does
            obj.differences = tuple(
                each for month in by_month(report.landed) for each in verify_days(store, report.dataset, month)
            )
        except MarketDataError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        obj.report = report
        if not report.landed:
            if report.dataset in _SIDE_INPUTS:
                _record_nothing(context)
                return
            raise dg.Failure(_nothing_read(report), allow_retries=False)
        _record_only(context, report.landed)
        before = recorded(context.step_context.instance, report.dataset.name, report.landed)
        shown = glances(store, report)
        for day in report.landed:
            context.step_context.add_asset_metadata(
                partition_metadata(report, store, day, before[day], shown[day]) | obj.notes(day),
                asset_key=context.asset_key,
                partition_key=day.isoformat(),
            )
        written, unchanged = (sum(f.changed is told for f in report.files if f.span.rows) for told in (True, False))
        context.log.info(
            "%s: %d day files written, %d unchanged, %d failed, %d gone; %d month files written; %d bytes sent",
            report.dataset.name,
            written,
            unchanged,
            sum(not failure.kept for failure in report.failures),
            len(report.removed),
            sum(month.changed for month in report.months),
            report.bytes_written,
        )

    def load_input(self, context: dg.InputContext) -> ObjectStore:
        """The lake itself: which files of the upstream days are there is for the reader to see."""
        return self.lake.open()


def _record_only(context: dg.OutputContext, days: Sequence[date]) -> None:
    """Lets Dagster record these partitions of a range alone; it has no public way to leave some of them out."""
    if len(days) < len(context.asset_partition_keys):
        subset = context.asset_partitions_def.subset_with_partition_keys([day.isoformat() for day in days])
        context._asset_partitions_subset = subset


def _record_nothing(context: dg.OutputContext) -> None:
    """Lets Dagster record no partition at all, though the step went well: likewise without a public way."""
    context._asset_key = None


def _nothing_read(report: WriteReport) -> str:
    days = f"{report.days[0]}" if len(report.days) == 1 else f"{report.days[0]} to {report.days[-1]}"
    reasons = list(dict.fromkeys(failure.message for failure in report.failures))
    shown = "\n".join(reasons[:_SHOWN])
    more = f"\n… and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    return f"{report.dataset.name} on {days}: nothing could be read, so nothing was changed.\n{shown}{more}"
