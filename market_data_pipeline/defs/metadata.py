"""What a person sees of a partition in the UI: pure functions from reports to metadata."""

from collections import Counter
from collections.abc import Sequence
from datetime import date

import dagster as dg

from market_data_pipeline.defs.origins import in_words, origins
from market_data_pipeline.defs.recorded import Recorded, content_metadata
from market_data_pipeline.defs.upstream import ASKED, EMPTY, FAILED, ROWS
from market_data_pipeline.lake.day_files import DayFile
from market_data_pipeline.lake.glances import Glance
from market_data_pipeline.lake.parquet import Span
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.writer import WriteReport
from market_data_pipeline.model.datasets import QUARANTINE, TEXT, Column, Dataset
from market_data_pipeline.model.layouts import Layout
from market_data_pipeline.model.windows import DAY
from market_data_pipeline.transforms.candles import FILLS, Fill
from market_data_pipeline.transforms.signals import Recipe

_NAMED = 200
"""How many corrected instruments are named."""


def definition_metadata(dataset: Dataset, recipe: Recipe) -> dict[str, object]:
    """What an asset says of itself: its columns with meanings, units and types, and what each is made from."""
    made_from = origins(dataset, recipe)
    told: dict[str, object] = {
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn(
                    column.name,
                    "string" if column.type == TEXT else str(column.type),
                    _meaning(column, made_from.get(column.name, ())),
                    constraints=dg.TableColumnConstraints(nullable=column.nullable),
                )
                for column in (*dataset.columns, *dataset.partition_columns)
            ]
        )
    }
    if made_from:
        told["dagster/column_lineage"] = dg.TableColumnLineage(
            {
                name: [dg.TableColumnDep(dg.AssetKey(asset), column) for asset, column in columns]
                for name, columns in made_from.items()
            }
        )
    return told


def _meaning(column: Column, made_from: Sequence[tuple[str, str]]) -> str:
    told = f"{column.meaning} ({column.unit})" if column.unit else column.meaning
    return f"{told} ← {in_words(made_from)}" if made_from else told


def layout_uri(store: ObjectStore, dataset: Dataset, layout: Layout, day: date) -> str:
    """Where a day's rows lie in a layout; `*` stands for what differs between instruments."""
    wild = dict.fromkeys(layout.placeholders, "*")
    times = {"year": f"{day.year:04}", "month": f"{day.month:02}", "day": f"{day.day:02}"}
    return store.uri_of(layout.template.format_map(wild | times | dataset.path_fields()))


def partition_metadata(
    report: WriteReport, store: ObjectStore, day: date, before: Recorded, glance: Glance
) -> dict[str, object]:
    """The metadata of one partition of a run.

    What a person looks for comes first; the columns are told by the asset itself, once for all partitions.

    Args:
        report: what the run wrote.
        store: the lake.
        day: the partition.
        before: what was recorded of it until then.
        glance: what is shown of its rows.
    """
    dataset = report.dataset
    read = [file for file in report.files if file.day == day]
    files = [file for file in read if file.span.rows]
    rows = sum(file.span.rows for file in files)
    metadata: dict[str, object] = {
        **_shown(glance),
        "dagster/partition_row_count": rows,
        "dagster/uri": layout_uri(store, dataset, dataset.layouts[0], day),
        ASKED: str(report.selection),
        ROWS: rows,
        "bytes": sum(file.size for file in files),
        "files_written": sum(file.changed for file in files),
        **{f"uri_{layout.name}": layout_uri(store, dataset, layout, day) for layout in dataset.layouts},
    }
    if dataset.per_instrument:
        metadata["instruments"] = len(files)
    firsts = [file.span.first for file in files if file.span.first]
    lasts = [file.span.last for file in files if file.span.last]
    if firsts and lasts:
        metadata |= {"first_timestamp": min(firsts).isoformat(), "last_timestamp": max(lasts).isoformat()}
    if dataset.timeframe:
        # what has no candle where it does not trade, as options, misses nothing there
        filled = [file for file in files if file.instrument and FILLS[file.instrument.type] is not Fill.OMIT]
        metadata["gaps"] = sum(DAY // dataset.timeframe.length - file.span.rows for file in filled)
    if failed := [failure for failure in report.failures if failure.day == day and not failure.kept]:
        metadata[FAILED] = dg.MetadataValue.json(
            [{"instrument": failure.label, "problem": failure.message} for failure in failed]
        )
    if empty := [file.instrument.id for file in read if file.instrument and not file.span.rows]:
        metadata[EMPTY] = dg.MetadataValue.json(empty)
    if removed := [instrument.id for at, instrument in report.removed if at == day]:
        metadata["removed_instruments"] = dg.MetadataValue.json(removed)
    if corrected := [file for file in files if file.before]:
        metadata["corrected_instruments"] = len(corrected)
        metadata["corrected"] = dg.MetadataValue.json([_correction(file) for file in corrected[:_NAMED]])
    metadata |= content_metadata(report, day, before)
    because = sum((Counter(file.rejects.because) for file in read), Counter())
    if because and (quarantine := QUARANTINE.get(dataset.name)):
        metadata["rows_set_aside"] = sum(because.values())
        metadata["rows_set_aside_because"] = dg.MetadataValue.json(dict(because))
        metadata["rows_set_aside_uri"] = layout_uri(store, quarantine, quarantine.layouts[0], day)
    return metadata | _of_run(report)


def _shown(glance: Glance) -> dict[str, object]:
    shown: dict[str, object] = {}
    if glance.picture:
        shown["picture"] = dg.MetadataValue.md(glance.picture.markdown)
    if glance.rows:
        shown["preview"] = dg.MetadataValue.table(
            [dg.TableRecord({name: _plain(value) for name, value in row.items()}) for row in glance.rows]
        )
    if glance.gaps:
        shown["gaps"] = sum(glance.gaps.values())
        shown["gaps_by_dataset"] = dg.MetadataValue.json(dict(glance.gaps))
    return shown


def _plain(value: object) -> str | float | int | bool | None:
    """A value as a table in the UI takes it."""
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value).removesuffix("+00:00")


def _correction(file: DayFile) -> dict[str, object]:
    """Rows and times of a day file, before it was replaced and now."""
    spans = {"before": file.before or Span(0), "now": file.span}
    told: dict[str, object] = {"instrument": str(file.instrument or "all")}
    for when, span in spans.items():
        told[f"rows_{when}"] = span.rows
        told |= {f"{name}_{when}": str(at) for name, at in (("first", span.first), ("last", span.last)) if at}
    return told


def waiting_notes(waiting: Sequence[str]) -> dict[str, object]:
    """Whether a day is final, and if not, the venues whose ticks of the day after are not in."""
    named = {"waiting_for_the_day_after": dg.MetadataValue.json(list(waiting))} if waiting else {}
    return {"final": not waiting, **named}


def _of_run(report: WriteReport) -> dict[str, object]:
    """What is told of a run as a whole, in each of its partitions."""
    return {
        "days_of_run": len(report.days),
        "bytes_written": report.bytes_written,
        "month_files_written": sum(month.changed for month in report.months),
    }
