"""The settings of signals: what they come to, and what is refused."""

from pathlib import Path

import pytest

from market_data_pipeline.model.datasets import TIMEFRAMES
from market_data_pipeline.model.errors import SettingError
from market_data_pipeline.settings import Settings
from market_data_pipeline.transforms.labels import LabelKind
from market_data_pipeline.transforms.signals import Recipe


def test_without_settings_signals_are_made_by_the_defaults(tmp_path: Path) -> None:
    assert Settings.load({}, tmp_path).signals == Settings().signals == Recipe()


def test_the_settings_of_signals(tmp_path: Path) -> None:
    values = {"TIMEFRAME": "1h", "TRAINING_DAYS": "90", "LABEL": "forward_return"}
    found = Settings.load({f"MARKET_DATA_SIGNAL_{name}": value for name, value in values.items()}, tmp_path).signals
    assert (found.timeframe.name, found.training_days, found.label) == ("1h", 90, LabelKind.FORWARD_RETURN)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TIMEFRAME", "7m", f"expected one of {', '.join(TIMEFRAMES)}"),
        ("TRAINING_DAYS", "1", "expected a number of days from 2 to 3660"),
        ("TRAINING_DAYS", "many", "expected a number of days"),
        ("TRAINING_DAYS", "-3", "expected a number of days"),
        ("LABEL", "profit", "expected triple_barrier or forward_return"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(tmp_path: Path, name: str, value: str, expected: str) -> None:
    with pytest.raises(SettingError, match=f"MARKET_DATA_SIGNAL_{name} is '{value}'; {expected}"):
        Settings.load({f"MARKET_DATA_SIGNAL_{name}": value}, tmp_path)
