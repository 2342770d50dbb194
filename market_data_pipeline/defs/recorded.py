"""What the metadata of a partition says for corrections: its content, what of it is new, and what had been read for it.

A change is told by content, against what was last recorded of each instrument: bytes that a killed run has left in the
lake are a change for the run that comes after it, though that one writes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

import dagster as dg

from market_data_pipeline.lake.writer import WriteReport
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.windows import as_day

CHANGED, UNCHANGED = "changed", "unchanged"
"""Metadata: by instrument the CRC-32C of what a run has read, told from what was recorded before; null if it went."""
CHANGED_FROM = "changed_from"
"""Metadata: the first time that what has changed holds, or held before; left out where it is not known."""
READ_AT = "inputs_read_at"
"""Metadata: the place in Dagster's history up to which all materializations of its inputs were in when it was made."""
STATE = "source_state"
"""Metadata of a partition of ticks: the state of the source before it was read; empty where it had nothing."""
ALL = "*"
"""Stands for the instrument of a file that holds all of them, and for what is made from several."""
_FIRST = "first_timestamp"
_PAGE = 500


@dataclass
class Recorded:
    """What was recorded of a partition until now.

    Attributes:
        sums: the newest checksum of each instrument; None where it went.
        firsts: the first times that it held.
    """

    sums: dict[str, str | None] = field(default_factory=dict)
    firsts: list[str] = field(default_factory=list)


def recorded(instance: dg.DagsterInstance, name: str, days: Iterable[date]) -> dict[date, Recorded]:
    """What Dagster's history says of some partitions of an asset; runs may each have been of other instruments."""
    found = {day: Recorded() for day in days}
    for day, made in materializations(instance, name, found):
        for sums in (mapping(made.metadata, CHANGED), mapping(made.metadata, UNCHANGED)):
            found[day].sums = sums | found[day].sums
        if _FIRST in made.metadata:
            found[day].firsts.append(str(made.metadata[_FIRST].value))
    return found


def materializations(
    instance: dg.DagsterInstance, name: str, days: Iterable[date]
) -> Iterator[tuple[date, dg.AssetMaterialization]]:
    """All materializations of some partitions of an asset, the newest first."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey(name), asset_partitions=[day.isoformat() for day in days])
    cursor: str | None = None
    while wanted.asset_partitions:
        page = instance.fetch_materializations(wanted, _PAGE, cursor)
        for record in page.records:
            made = record.asset_materialization
            if made is not None and made.partition is not None:
                yield as_day(made.partition), made
        cursor = page.cursor
        if not page.has_more:
            break


def mapping(metadata: Mapping[str, dg.MetadataValue], name: str) -> dict[str, str | None]:
    """An entry of checksums; empty where there is none."""
    value = metadata[name].value if name in metadata else None
    return value if isinstance(value, dict) else {}


def content_metadata(report: WriteReport, day: date, before: Recorded) -> dict[str, object]:
    """What a run says of a day's content; what it could not read, or was not asked for, it says nothing of."""
    files = {_label(file.instrument): file for file in report.files if file.day == day and file.span.rows}
    failed = {failure.instrument for failure in report.failures if failure.day == day}
    now: dict[str, str | None] = {label: f"{file.crc32c:08x}" for label, file in files.items()}
    now |= {instrument.id: None for at, instrument in report.removed if at == day}
    if None not in failed:
        now |= {
            label: None
            for label in before.sums
            if label not in now and _asked_for(label, report) and _instrument(label) not in failed
        }
    # bytes that were replaced may have been read meanwhile, even where they were never recorded
    changed = {
        label: told
        for label, told in sorted(now.items())
        if told != before.sums.get(label, "never") or (label in files and files[label].changed)
    }
    if not changed:
        return {UNCHANGED: dg.MetadataValue.json(now)}
    spans = [each for label in changed if label in files for each in (files[label].span, files[label].before)]
    firsts = [each.first.isoformat() for each in spans if each and each.first] + before.firsts
    return {
        CHANGED: dg.MetadataValue.json(changed),
        UNCHANGED: dg.MetadataValue.json({label: told for label, told in now.items() if label not in changed}),
        **({CHANGED_FROM: min(firsts)} if firsts else {}),
    }


def _label(instrument: Instrument | None) -> str:
    return instrument.id if instrument else ALL


def _instrument(label: str) -> Instrument | None:
    return None if label == ALL else Instrument.parse(label)


def _asked_for(label: str, report: WriteReport) -> bool:
    instrument = _instrument(label)
    return instrument is None or instrument in report.selection


def newest_place(instance: dg.DagsterInstance, names: Iterable[str]) -> int:
    """The place in Dagster's history of the newest materialization of some assets; 0 without any."""
    found = (instance.fetch_materializations(dg.AssetKey(name), 1).records for name in names)
    return max((record.storage_id for records in found for record in records), default=0)
