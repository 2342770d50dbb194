"""Small pictures as SVG: marks beside each other in strips, drawn from numbers, in so few letters as can be.

A page that shows text up to a thousand letters where it stands shows such a picture at once. Libraries that plot make
bigger ones: the smallest candles of Matplotlib are 25,000 letters and take 50 ms, one line without axes 1,400.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np

from market_data_pipeline.transforms.as_of import Reals

UP, DOWN, QUIET, BLUE = "teal", "crimson", "gray", "steelblue"
_SIDE = 96  # of the box that all is drawn in, so that places have two digits; it is stretched when shown
_WIDE = 2.8  # of the bodies of candles, unless a path says otherwise


@dataclass(frozen=True)
class Strip:
    """A horizontal part of a picture.

    Attributes:
        top: where it begins, 0 to 99 from the top of the picture.
        height: how high it is.
    """

    top: int
    height: int

    @property
    def bottom(self) -> int:
        """Where it ends."""
        return self.top + self.height

    def place(self, values: Reals, low: float, high: float) -> Reals:
        """How far from the top of the picture values between two bounds stand."""
        scale = self.height / (high - low) if high > low else 0.0
        middle = self.top + self.height / 2
        return self.bottom - (values - low) * scale if scale else np.where(np.isnan(values), np.nan, middle)


def svg(paths: Sequence[str]) -> str:
    """A picture of some paths."""
    box = f"width='480' height='150' viewBox='0,0,{_SIDE},100' preserveAspectRatio='none' stroke-width='{_WIDE}'"
    return f"<svg xmlns='http://www.w3.org/2000/svg' {box}>{''.join(filter(None, paths))}</svg>"


def address(picture: str) -> str:
    """A picture as an address that holds it whole; shorter than base64, as paths hold few signs that are escaped.

    Spaces stay, so in Markdown it stands in angle brackets.
    """
    return "data:image/svg+xml," + quote(picture, safe="='/:, ")


def candlesticks(strip: Strip, opens: Reals, highs: Reals, lows: Reals, closes: Reals) -> list[str]:
    """Candles over the whole width: a wick from low to high, a body from open to close. NaN is no candle."""
    bounds = _bounds(lows, highs)
    if bounds is None:
        return []
    from_top = [np.round(strip.place(each, *bounds)) for each in (opens, highs, lows, closes)]
    wicks: list[str] = []
    bodies: dict[str, list[str]] = {UP: [], DOWN: []}
    for at, first, top, bottom, last in zip(_across(len(opens)), *from_top, strict=True):
        if not np.isnan(first):
            wicks.append(f"M{at},{top:.0f}v{bottom - top:.0f}")
            # one that stands still is a line
            bodies[UP if last <= first else DOWN].append(
                f"M{at},{min(first, last):.0f}v{max(1, abs(last - first)):.0f}"
            )
    return [_path(wicks, QUIET, 0.3), *(_path(marks, colour) for colour, marks in bodies.items())]


def columns(strip: Strip, values: Reals, colour: str, *, most: float | None = None, down: bool = False) -> str:
    """Columns from the bottom of a strip, or with `down` from its top; NaN and 0 have none.

    Args:
        strip: where.
        values: how high each is, not negative.
        colour: their colour.
        most: the value that is as high as the strip; the greatest by default.
        down: whether they hang.
    """
    most = most if most is not None else float(np.nanmax(values, initial=0))
    if not most > 0:
        return ""
    heights = np.round(np.nan_to_num(values) / most * strip.height)
    base, sign = (strip.top, 1) if down else (strip.bottom, -1)
    marks = "".join(f"V{base + sign * height:.0f}H{at}" for at, height in zip(_ends(len(values)), heights, strict=True))
    # one outline of all of them, which is half as long as a stroke for each
    return f"<path fill='{colour}' d='M0,{base}{marks}V{base}'/>"


def line(strip: Strip, values: Reals, colour: str) -> str:
    """A line from one value to the next; NaN interrupts it, and a value between two of them is a dot."""
    bounds = _bounds(values, values)
    if bounds is None:
        return ""
    runs: list[list[str]] = [[]]
    for at, high in zip(_across(len(values)), np.round(strip.place(values, *bounds)), strict=True):
        if np.isnan(high):
            runs.append([])
        else:
            runs[-1].append(f"{at},{high:.0f}")
    marks = [f"M{','.join(run)}{'h1' if len(run) == 1 else ''}" for run in runs if run]
    return _path(marks, colour, 0.8, " fill='none'")


def cells(strip: Strip, rows: Sequence[Sequence[bool]], colour: str) -> str:
    """A table of cells, row under row, drawn where they are true; cells beside each other are one mark."""
    high = strip.height / len(rows)
    marks = []
    for number, row in enumerate(rows):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
        places = np.round(edges * _SIDE / len(row)).astype(int)
        middle = _short(strip.top + (number + 0.5) * high)
        marks += [f"M{first},{middle}h{last - first}" for first, last in zip(places[::2], places[1::2], strict=True)]
    return _path(marks, colour, round(high * 0.8, 1))


def _bounds(lows: Reals, highs: Reals) -> tuple[float, float] | None:
    if np.isnan(lows).all():
        return None
    return float(np.nanmin(lows)), float(np.nanmax(highs))


def _across(count: int) -> list[int]:
    """The middles of marks that share the width."""
    return [int((number + 0.5) * _SIDE / count) for number in range(count)]


def _ends(count: int) -> list[int]:
    """Where marks that share the width end."""
    return [int((number + 1) * _SIDE / count) for number in range(count)]


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0").removeprefix("0")


def _path(marks: Sequence[str], colour: str, wide: float | None = None, more: str = "") -> str:
    width = f" stroke-width='{_short(wide)}'" if wide else ""
    return f"<path stroke='{colour}'{width}{more} d='{''.join(marks)}'/>" if marks else ""
