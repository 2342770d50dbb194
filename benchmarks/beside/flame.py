"""Flame graphs: of the time that a case of ours takes, which function has how much, as pictures.

python -m benchmarks.beside.flame PY_SPY FOLDER CASE... [--size full]

The width of a box is a share of the time that threads were seen at work, or waiting for Arrow's own threads. Below a
function stand those that it called.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from benchmarks.beside.cases import SIZES

_WIDTH, _ROW, _LETTER = 1200, 18, 6.6
_LEAST = 0.004  # of the whole: thinner boxes are left out
_DEEPEST = 16
_WAITING = ("PyThread_acquire_lock_timed", "_SimpleQueue", "Condition.wait", "Thread.join")
_OURS, _ARROW, _OTHER = "#8fb8de", "#f2b880", "#d9d9d9"


@dataclass
class _Box:
    samples: int = 0
    inside: dict[str, "_Box"] = field(default_factory=dict)


def main() -> None:
    """Draws `flame-CASE.svg` for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiler", type=Path, metavar="PY_SPY")
    parser.add_argument("folder", type=Path)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--size", choices=SIZES, default="full")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for case in arguments.cases:
        whole = _Box()
        for frames, samples in _stacks(arguments.profiler, case, arguments.size):
            _add(whole, frames[:_DEEPEST], samples)
        target = arguments.folder / f"flame-{case}.svg"
        target.write_text("\n".join(_drawn(case, whole)) + "\n")
        print(target)


def _stacks(profiler: Path, case: str, size: str) -> Iterator[tuple[list[str], int]]:
    """The frames of each stack below the case's own call, outermost first, and how often it was seen."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "stacks"
        command = [profiler, "record", "--native", "--function", "--rate", "250", "--format", "raw", "--output", found]
        profiled = ["-m", "benchmarks.beside.profile", case, "--size", size, "--runs", "40"]
        subprocess.run(
            [*command, "--", sys.executable, *profiled],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        yield from _worked(found.read_text().splitlines())


def _worked(lines: Iterable[str]) -> Iterator[tuple[list[str], int]]:
    """Of stacks as the profiler writes them, those below the case's own call or in threads that help, and at work."""
    for line in lines:
        stack, _, samples = line.rpartition(" ")
        frames = [_named(frame) for frame in stack.split(";")]
        place = next((n for n, frame in enumerate(frames) if frame in ("run", "_WorkItem.run")), None)
        if place is not None and not any(frame.startswith(_WAITING) for frame in frames):
            where = "the thread that asks" if frames[place] == "run" else "threads that help"
            yield [where, *(frame for frame in frames[place + 1 :] if frame)], int(samples)


def _named(frame: str) -> str:
    """A frame's function, with the module where it is ours or Arrow's; nothing where only an address is known."""
    function, _, place = frame.rpartition(" (")
    if not function or function.startswith("0x"):
        return ""
    function = function.split(".<locals>.")[-1].split("<")[0].split("(")[0] or function
    if "market_data_pipeline/" in place:
        return f"{Path(place.partition(':')[0]).stem}.{function}"
    return f"arrow {function}" if "arrow" in place else function


def _add(box: _Box, frames: list[str], samples: int) -> None:
    box.samples += samples
    if frames:
        _add(box.inside.setdefault(frames[0], _Box()), frames[1:], samples)


def _drawn(case: str, whole: _Box) -> Iterator[str]:
    boxes = list(_boxes(whole, whole.samples, 0.0, 0))
    height = _ROW * (2 + max((depth for *_, depth in boxes), default=0))
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'font-family="monospace" font-size="11">'
    )
    yield f'<text x="4" y="13">{escape(case)}: {whole.samples} samples; blue is ours, orange Arrow</text>'
    for name, share, left, depth in boxes:
        x, y, width = left * _WIDTH, depth * _ROW + _ROW, share * _WIDTH
        fits = int(width / _LETTER) - 1
        label = name if len(name) <= fits else f"{name[: fits - 1]}…" if fits > 3 else ""
        colour = _ARROW if name.startswith("arrow ") else _OURS if "." in name else _OTHER
        yield f"<g><title>{escape(name)} {share:.1%}</title>"
        yield f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 1}" fill="{colour}" stroke="white"/>'
        yield f'<text x="{x + 3:.1f}" y="{y + 12}">{escape(label)}</text></g>'
    yield "</svg>"


def _boxes(box: _Box, whole: int, left: float, depth: int) -> Iterator[tuple[str, float, float, int]]:
    """Name, share of the whole, where it begins and how deep it lies, of all that is inside a box; widest first."""
    for name, each in sorted(box.inside.items(), key=lambda item: -item[1].samples):
        share = each.samples / whole
        if share >= _LEAST:
            yield name, share, left, depth
            yield from _boxes(each, whole, left, depth + 1)
        left += share


if __name__ == "__main__":
    main()
