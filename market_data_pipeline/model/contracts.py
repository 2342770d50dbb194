"""What one unit of a venue's `amount` stands for: linear or inverse, the multiplier, and the unit's name."""

from dataclasses import dataclass
from enum import StrEnum


class VolumeUnit(StrEnum):
    """What a venue's `amount` counts; the `volume_unit` column of candles."""

    BASE = "base"
    QUOTE = "quote"
    CONTRACTS = "contracts"


@dataclass(frozen=True, slots=True)
class Contract:
    """How amounts of one instrument become values.

    Linear: base value = amount, quote value = price × amount.
    Inverse: quote value = amount × multiplier, base value = amount × multiplier / price.

    Attributes:
        inverse: margined and paid in the base asset.
        multiplier: quote asset that one unit of amount stands for (inverse only); None where it isn't known.
        unit: what the amounts count.
    """

    inverse: bool = False
    multiplier: float | None = None
    unit: VolumeUnit = VolumeUnit.BASE


LINEAR = Contract()
