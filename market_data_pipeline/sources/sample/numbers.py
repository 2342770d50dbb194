"""Numbers of the sample that are the same on every machine: seeded draws, noise, exp, log, the normal distribution.

Draws are taken from the bit generator itself, whose stream NumPy keeps (NEP 19), not from `Generator`, whose methods
may change. NumPy's own exp and log differ in the last bit between processors, so those here are made of sums, products
and quotients, which IEEE 754 fixes to the last bit. For the same reason nothing here sums floats by `np.sum` or BLAS.
"""

import math
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
_RealOrReals = TypeVar("_RealOrReals", float, Reals)

_LOG2_E = 1.4426950408889634
# ln 2 in two parts: the first has so few bits that its product with a small integer is exact (fdlibm, e_exp.c)
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_EXP_TERMS = 14
_LOG_TERMS = 12


class Draws:
    """A stream of random numbers that is told by its key alone.

    Attributes:
        key: what the numbers are for; texts and whole numbers.
    """

    def __init__(self, *key: str | int) -> None:
        self._bits = np.random.PCG64(_seed(key, 16))

    def uniform(self, count: int) -> Reals:
        """Numbers strictly between 0 and 1."""
        bits = self._bits.random_raw(count)
        numbers: Reals = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
        return numbers

    def normal(self, count: int) -> Reals:
        """Numbers of mean 0 and variance 1, nearly normal, never beyond 3.5: the sum of four uniform ones."""
        quarters = self._bits.random_raw(count).view(np.uint16).reshape(count, 4)
        total: Reals = quarters.sum(axis=1, dtype=np.int64).astype(np.float64)
        return (total - 2.0 * 65_535) / math.sqrt((65_536.0**2 - 1) / 3)


def _seed(key: tuple[str | int, ...], size: int) -> int:
    text = "|".join(map(str, key)).encode()
    return int.from_bytes(blake2b(text, digest_size=size).digest(), "big")


def spiky(uniform: Reals, highest: float) -> Reals:
    """Positive numbers of mean 1 with a heavy tail: a Pareto distribution of exponent 2, cut at the top.

    Args:
        uniform: draws between 0 and 1.
        highest: the ratio of the largest possible number to the smallest.
    """
    # the mean of min(u ** -0.5, h) for a uniform u is 2 - 1 / h
    return np.minimum(1.0 / np.sqrt(uniform), highest) / (2.0 - 1.0 / highest)


@lru_cache(maxsize=65_536)
def _lattice(key: str, cell: int) -> float:
    """A number of mean 0 and variance 1, between -√3 and √3."""
    return (_seed((key, cell), 6) / 2.0**47 - 1.0) * math.sqrt(3)


def noise(key: str, cell: int, within: _RealOrReals) -> _RealOrReals:
    """Value noise: random numbers on a lattice, joined smoothly.

    Args:
        key: which noise.
        cell: the lattice point at or before the place.
        within: how far the place lies into the cell, 0 to 1.

    Returns:
        Numbers between -√3 and √3, of variance 1 on the lattice.
    """
    left, right = _lattice(key, cell), _lattice(key, cell + 1)
    return left + (right - left) * (within * within * (3.0 - 2.0 * within))


def exp(x: Reals) -> Reals:
    """The exponential of x, to about 2 units in the last place, for |x| < 700."""
    power = np.rint(x * _LOG2_E)
    rest = (x - power * _LN2_HIGH) - power * _LN2_LOW
    total = np.ones_like(rest)
    for term in range(_EXP_TERMS, 0, -1):
        total = 1.0 + total * rest / term
    return np.ldexp(total, power.astype(np.int32))


def log(x: float) -> float:
    """The natural logarithm of a positive number, to about 1e-15."""
    mantissa, power = math.frexp(x)
    if mantissa < 0.7:
        mantissa, power = mantissa * 2, power - 1
    # log m = 2 artanh((m - 1) / (m + 1)), as a series
    ratio = (mantissa - 1) / (mantissa + 1)
    total = 0.0
    for term in range(_LOG_TERMS, -1, -1):
        total = total * ratio * ratio + 1 / (2 * term + 1)
    return 2 * ratio * total + (power * _LN2_LOW + power * _LN2_HIGH)


def normal_pdf(x: Reals) -> Reals:
    """The standard normal density."""
    size = np.minimum(np.abs(x), 30.0)
    return exp(-0.5 * size * size) * 0.3989422804014327


def normal_cdf(x: Reals, density: Reals | None = None) -> Reals:
    """The standard normal distribution function, to 7.5e-8 (Abramowitz and Stegun, 26.2.17).

    Args:
        x: where.
        density: the standard normal density there, if it is known already: it costs most.
    """
    t = 1.0 / (1.0 + 0.2316419 * np.minimum(np.abs(x), 30.0))
    series = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = (normal_pdf(x) if density is None else density) * series
    return np.where(x < 0, tail, 1.0 - tail)


@dataclass(frozen=True)
class Grid:
    """The grid of a price or an amount: whole multiples of a step.

    Attributes:
        text: the step as decimal text, such as `0.0005`.
    """

    text: str

    @cached_property
    def step(self) -> float:
        """The step, as a number."""
        return float(self.text)

    def values(self, steps: Integers) -> Reals:
        """The numbers so many steps above zero: those that their decimal texts would give, to the last bit."""
        # a quotient of two whole numbers is rounded once, as a decimal text is
        top, bottom = Decimal(self.text).as_integer_ratio()
        return (steps * top).astype(np.float64) / bottom

    def nearest(self, numbers: Reals) -> Reals:
        """The grid's nearest values; NaN stays."""
        missing = np.isnan(numbers)
        # what a machine makes of NaN as a whole number is its own affair
        steps = np.rint(np.where(missing, 0.0, numbers) / self.step).astype(np.int64)
        return np.where(missing, np.nan, self.values(steps))
