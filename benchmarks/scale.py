"""What a day costs on Google Cloud Storage, by counting: objects, requests by class, bytes, and dollars at list prices.

Each day runs through Dagster, all assets, against the test server in this process, which counts. Instruments of trades
alone; straight lines through what was counted tell of more instruments.

python -m benchmarks.scale --instruments 10,30,100 --history 61 --docs
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from textwrap import wrap

import numpy as np

from benchmarks.day import SyntheticSource
from benchmarks.grouped import kind
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.windows import days_between
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.gcs_server import Answer, GcsServer, Request

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
_BEGIN, _END = "<!-- counted: begin -->", "<!-- counted: end -->"
BUCKET = "lake"
_MONTH = date(2024, 8, 1)
_LAST = date(2024, 8, 31)

# Google's list prices for Standard storage in us-east1, US dollars: https://cloud.google.com/storage/pricing-examples,
# as read on 2026-11-28.
DOLLARS_A = 0.005 / 1_000
DOLLARS_B = 0.0004 / 1_000
DOLLARS_GB_MONTH = 0.020
PAGE_OF_LISTING = 1_000

# https://cloud.google.com/storage/pricing#operations-by-class; deleting is free
_CLASSES = {"writes": "A", "copies": "A", "listings": "A", "reads": "B", "looks": "B", "deletes": "free"}

Numbers = Mapping[str, float]


class Counting(GcsServer):
    """The test server, which adds up what it is asked for.

    Attributes:
        counted: requests by kind; names that listings went over; bytes that came in and went out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()
        self.memory.create(BUCKET)

    def answer(self, request: Request) -> Answer:
        """Carries out a request, and counts it."""
        answer = super().answer(request)
        with self.memory.lock:
            self._count(request, answer)
        return answer

    def _count(self, request: Request, answer: Answer) -> None:
        of = kind(request.method, request.path, request.is_media)
        if request.method == "PUT" and "upload_id" in request.query:
            # the chunks of a resumable upload belong to the request that began it
            self.counted["bytes in"] += len(request.body)
            return
        self.counted[of] += 1
        if of == "writes":
            self.counted["bytes in"] += len(request.body)
        elif of == "reads":
            self.counted["bytes out"] += len(answer.body)
        elif of == "listings":
            self.counted["names listed"] += len(json.loads(answer.body).get("items", ()))

    def stored(self) -> Counter[str]:
        """Bytes that lie there, of days and of months, and those of the largest month file."""
        found: Counter[str] = Counter()
        for name, held in self.memory.buckets[BUCKET].items():
            found["bytes of day files" if "/day-" in name else "bytes of month files"] += len(held.data)
        found["largest month file"] = len(self.memory.buckets[BUCKET][self.largest()].data)
        return found

    def largest(self) -> str:
        """The largest file that holds a month."""
        held = self.memory.buckets[BUCKET]
        return max((name for name in held if "/day-" not in name), key=lambda name: len(held[name].data))

    def written(self) -> dict[str, int]:
        """What lies there, by name, with its generation."""
        return {name: held.generation for name, held in self.memory.buckets[BUCKET].items()}


def main() -> None:
    """Counts, and prints the tables; with `--docs` puts them into docs/scale.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instruments", default="10,30,100", help="how many there are, a day each; three or more")
    parser.add_argument("--trades", type=int, default=20_000, help="trades of an instrument on a day")
    parser.add_argument("--history", type=int, default=61, help="days before the 31st that lie there in the last count")
    parser.add_argument("--docs", action="store_true", help="puts the tables into docs/scale.md")
    arguments = parser.parse_args()
    sizes = [int(text) for text in arguments.instruments.split(",")]
    if len(set(sizes)) < 3:
        sys.exit("--instruments: expected three numbers or more, such as 10,30,100: a line goes through them")
    second = {size: counted(size, arguments.trades, [[_MONTH], [_MONTH + timedelta(1)]])[-1] for size in sizes}
    before = list(days_between(_LAST - timedelta(arguments.history), _LAST - timedelta(1)))
    late = {few: counted(few, arguments.trades, [before, [_LAST]]) for few in (1, 2)}
    text = "\n".join([*days_table(second, arguments.trades), "", *_months(second, late, len(before))])
    print(text)
    if arguments.docs:
        into_page(PAGE, text)


def counted(instruments: int, trades: int, runs: Sequence[Sequence[date]]) -> list[Numbers]:
    """Runs days, one run after the other; what each run asked for, and what it left behind."""
    import dagster as dg

    from market_data_pipeline.defs.build import build_definitions
    from market_data_pipeline.defs.launch import launch

    server = Counting().start()
    os.environ["STORAGE_EMULATOR_HOST"] = server.url
    settings = Settings(lake=f"gs://{BUCKET}", emulator=server.url)
    source = SyntheticSource([Instrument.spot("binance", f"A{at:05}", "USDT") for at in range(instruments)], trades)
    defs = build_definitions(settings, source)
    found = []
    with dg.DagsterInstance.ephemeral() as instance:
        for days in runs:
            before = server.written()
            server.counted.clear()
            outcome = launch(defs, instance, days[0], days[-1])
            server.requests.clear()  # they hold what was uploaded
            if not outcome.succeeded:
                sys.exit("\n".join(outcome.problems))
            print(f"{instruments} instruments, {days[0]} to {days[-1]}: {dict(server.counted)}", file=sys.stderr)
            found.append(_numbers(server, before))
    print(f"the largest month file: {server.largest()}", file=sys.stderr)
    server.stop()
    return found


def _numbers(server: Counting, before: Mapping[str, int]) -> Numbers:
    """What a run asked for, and what of what lies there it has written."""
    new = {name: generation for name, generation in server.written().items() if before.get(name) != generation}
    numbers: dict[str, float] = {**dict.fromkeys(_CLASSES, 0), **server.counted, **server.stored()}
    numbers["new objects"] = sum(name not in before for name in new)
    numbers["replaced objects"] = sum(name in before for name in new)
    held = server.memory.buckets[BUCKET]
    numbers["bytes of new day files"] = sum(len(held[name].data) for name in new if "/day-" in name)
    for letter in ("A", "B"):
        numbers[letter] = sum(numbers[of] for of, its in _CLASSES.items() if its == letter)
    return numbers


def _line(points: Mapping[int, float], at: int) -> float:
    """The straight line through some points, there."""
    slope, start = np.polyfit(list(points), list(points.values()), 1)
    return float(slope * at + start)


def _off(points: Mapping[int, float]) -> float:
    """How far, as a share, the line misses the point that it misses most."""
    return max((abs(_line(points, at) - value) / value for at, value in points.items() if value), default=0.0)


_ROWS = (
    "new objects",
    "replaced objects",
    "writes",
    "copies",
    "listings",
    "names listed",
    "reads",
    "looks",
    "A",
    "B",
    "bytes in",
    "bytes out",
    "bytes of new day files",
)
_NAMES = {"A": "**class A**", "B": "**class B**", "bytes in": "bytes in", "looks": "looks (metadata)"}
_FAR = (1_000, 10_000)


def days_table(second: Mapping[int, Numbers], trades: int) -> list[str]:
    """The table of a day early in a month: counted, and along the lines."""
    sizes = sorted(second)
    found = {row: {size: second[size][row] for size in sizes} for row in _ROWS}
    far = {row: {at: _line(points, at) for at in _FAR} for row, points in found.items()}
    for at in _FAR:  # of many names a listing has more pages than the lines know of
        more = far["names listed"][at] / PAGE_OF_LISTING
        far["listings"][at] += more
        far["A"][at] += more
    heads = [f"{size:,}" for size in sizes] + [f"*{at:,}*" for at in _FAR] + ["off by"]
    told = (
        f"The 2nd of a month, the 1st being there, {trades:,} trades of each instrument. Columns in italics are lines "
        "through the others, with a listing's further pages added; *off by* is how far a line misses what was counted."
    )
    lines = [
        *wrap(told, 120),
        "",
        "| instruments | " + " | ".join(heads) + " |",
        "| --- |" + " ---: |" * len(heads),
    ]
    for row in _ROWS:
        cells = [_number(row, value) for value in (*found[row].values(), *far[row].values())]
        lines.append(f"| {_NAMES.get(row, row)} | {' | '.join(cells)} | {100 * _off(found[row]):.1f} % |")
    asked = [_dollars(second[size]) for size in sizes] + [_dollars({of: far[of][at] for of in "AB"}) for at in _FAR]
    lines.append("| **requests, US$** | " + " | ".join(f"{each:.3f}" for each in asked) + " | |")
    kept = [*found["bytes of new day files"].values(), *far["bytes of new day files"].values()]
    dear = [each / 1e9 * DOLLARS_GB_MONTH * 12 for each in kept]
    lines.append("| its day files for a year, US$ | " + " | ".join(f"{each:.3f}" for each in dear) + " | |")
    return lines


def _months(second: Mapping[int, Numbers], late: Mapping[int, Sequence[Numbers]], history: int) -> list[str]:
    """The table of what an instrument adds: early and late in a month, and to a month made by the day or at once."""
    (few, more), (small, *_, large) = sorted(late), sorted(second)
    told = (
        f"What each further instrument adds: to the 2nd of a month; to a 31st with {history} days before it; to a "
        "month of daily runs, 31 days half way between these two; and to a month as part of one run of "
        f"{history} days."
    )
    lines = [
        *wrap(told, 120),
        "",
        "| each further instrument | the 2nd | the 31st | *a month by the day* | a month in one run |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in (*_ROWS, "bytes of month files", "largest month file"):
        early = (second[large][row] - second[small][row]) / (large - small)
        whole, last = (late[more][run][row] - late[few][run][row] for run in (0, 1))
        cells = [_number(row, early), _number(row, last)]
        stands = row in ("bytes of month files", "largest month file")
        cells += ["", ""] if stands else [_number(row, 31 * (early + last) / 2), _number(row, 31 * whole / history)]
        lines.append(f"| {_NAMES.get(row, row)} | {' | '.join(cells)} |")
    return lines


def _dollars(numbers: Numbers) -> float:
    """What requests cost."""
    return numbers["A"] * DOLLARS_A + numbers["B"] * DOLLARS_B


def _number(row: str, value: float) -> str:
    """Bytes in megabytes, all else to a tenth where it is small."""
    if "bytes" in row or row == "largest month file":
        return f"{value / 1e6:,.2f} MB" if value < 1e9 else f"{value / 1e9:,.1f} GB"
    return f"{value:,.1f}".removesuffix(".0") if value < 100 else f"{value:,.0f}"


def into_page(page: Path, text: str) -> None:
    """Puts what was counted between two marks of a page."""
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        sys.exit(f"{page} lacks the marks {_BEGIN} and {_END}, between which the tables go")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


if __name__ == "__main__":
    main()
