"""What was measured, as a table in the terminal, as JSON, and in the documentation."""

import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.beside.cases import Case, Under
from benchmarks.beside.runner import Measured

_PACKAGES = ("pyarrow", "numpy", "pandas", "dagster")
_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"
_HEADS = ("work", "beside", "ours", "theirs", "ours / theirs", "goal", "met", "peak MB, ours / theirs")


@dataclass(frozen=True)
class Line:
    """One comparison.

    Attributes:
        work: what was done.
        beside: with whom.
        ours: our median, as text.
        theirs: theirs.
        ratio: ours by theirs; None where it was not measured.
        goal: the most that it may be, as text.
        met: whether it is; None where it was not measured, or where there is no goal.
        peaks: peaks of memory.
    """

    work: str
    beside: str
    ours: str
    theirs: str
    ratio: float | None
    goal: str
    met: bool | None
    peaks: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The line's texts."""
        met = {True: "yes", False: "no", None: "–"}[self.met]
        ratio = "–" if self.ratio is None else f"{self.ratio:.2f}"
        return (self.work, self.beside, self.ours, self.theirs, ratio, self.goal, met, self.peaks)


def lines(case: Case, took: Mapping[str, Measured | str]) -> Iterator[Line]:
    """A case's comparisons, then its bounds that are no ratios."""
    ours = took[case.contenders[0].label]
    assert isinstance(ours, Measured)
    told = _told(ours.median, case.unit)
    for contender in case.contenders[1:]:
        theirs, most = took[contender.label], case.goals.get(contender.label)
        goal = "–" if most is None else f"≤ {most:.3g}"
        if isinstance(theirs, str):
            yield Line(case.work, contender.label, told, theirs, None, goal, None, f"{ours.peak:,.0f} / –")
            continue
        ratio = ours.median / theirs.median
        peaks = f"{ours.peak:,.0f} / {theirs.peak:,.0f}"
        met = None if most is None else ratio <= most
        yield Line(case.work, contender.label, told, _told(theirs.median, case.unit), ratio, goal, met, peaks)
    for bound in case.under:
        value = {"median": ours.median, "p95": ours.p95, "peak": ours.peak}[bound.of]
        yield Line(
            case.work,
            bound.of,
            _bound(value, bound),
            "",
            None,
            f"< {_bound(bound.value, bound)}",
            value < bound.value,
            "",
        )


def _bound(value: float, bound: Under) -> str:
    return f"{value:,.0f} MB" if bound.of == "peak" else _told(value, "s")


def _told(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 1e6:,.2f} MB"
    return (
        f"{value:,.2f} s" if value >= 1 else f"{value * 1000:,.1f} ms" if value >= 0.01 else f"{value * 1000:,.2f} ms"
    )


def show(found: list[Line]) -> None:
    """Prints the table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*_HEADS, box=box.SIMPLE_HEAD)
    before = ""
    for line in found:
        work, *others = line.cells
        colour = {True: "green", False: "red", None: None}[line.met]
        table.add_row("" if work == before else work, *others, style=colour)
        before = work
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def circumstances(size: str, rounds: int, peers: Mapping[str, str]) -> dict[str, Any]:
    """Where and when it was measured, and with what; `loads` is to tell how busy the machine was before each case."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "size": size,
        "rounds": rounds,
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
            "system": platform.platform(terse=True),
        },
        "loads": {},
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in _PACKAGES},
        "peers": dict(peers),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", path.read_text(), re.MULTILINE) if path.exists() else None
    return named[1] if named else platform.processor() or platform.machine()


def as_json(
    about: Mapping[str, Any], cases: list[Case], took: Mapping[str, Mapping[str, Measured | str]]
) -> dict[str, Any]:
    """All that was measured, each run of each contender, too."""
    rows = []
    for case in cases:
        contenders = {
            label: each if isinstance(each, str) else asdict(each) | {"median": each.median}
            for label, each in took[case.name].items()
        }
        row = {"case": case.name, "work": case.work, "note": case.note, "contenders": contenders}
        rows.append(row | {"lines": [asdict(line) for line in lines(case, took[case.name])]})
    return {**about, "cases": rows}


def into_page(page: Path, about: Mapping[str, Any], found: list[Line], said: list[str]) -> None:
    """Puts the table between the page's two marks; all else on it stays.

    Raises:
        ValueError: the page lacks the marks.
    """
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the marks {_BEGIN} and {_END}, between which the table goes")
    page.write_text(f"{before}{_BEGIN}\n\n{_markdown(about, found, said)}\n{_END}{after}")


def _markdown(about: Mapping[str, Any], found: list[Line], said: list[str]) -> str:
    machine = about["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in {**about["versions"], **about["peers"]}.items())
    loads = sorted(about["loads"].values()) or [0.0]
    where = (
        f"Measured {about['date']}, size `{about['size']}`, on {machine['cores']} cores ({machine['processor']}), "
        f"{machine['memory_gb']} GB, {machine['system']}, at loads of {loads[0]:g} to {loads[-1]:g}; {versions}."
    )
    rows = ["| " + " | ".join(_HEADS) + " |", "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: |"]
    before = ""
    for line in found:
        work, *others = line.cells
        rows.append("| " + " | ".join(["" if work == before else work, *others]) + " |")
        before = work
    notes = [f"- {each}" for each in said]
    return "\n".join([where, "", *rows, "", *notes, ""])
