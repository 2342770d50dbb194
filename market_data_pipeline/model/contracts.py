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

    Linear: base value = amount × multiplier, quote value = price × amount × multiplier.
    Inverse: quote value = amount × multiplier, base value = amount × multiplier / price.
    Without a multiplier neither value is known, and both are null.

    Attributes:
        inverse: margined and paid in the base asset.
        multiplier: what one unit of amount stands for: base asset (linear) or quote asset (inverse). 1 where amounts
            count that asset itself; None where it isn't known.
        unit: what the amounts count.
    """

    inverse: bool = False
    multiplier: float | None = 1.0
    unit: VolumeUnit = VolumeUnit.BASE


LINEAR = Contract()
