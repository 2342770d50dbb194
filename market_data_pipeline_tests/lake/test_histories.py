"""What features look back on: the same rows however many days are decoded at once."""

from typing import Any

import pyarrow.parquet as pq
import pytest

from market_data_pipeline.lake.histories import stored_rows
from market_data_pipeline.model.windows import DAY as ONE_DAY
from market_data_pipeline.model.windows import Window, midnight
from market_data_pipeline_tests.lake.made_up import PERP
from market_data_pipeline_tests.lake.test_signals import DAYS, LAST, TECHNICAL, fill
from market_data_pipeline_tests.store_fixtures import Ground
from market_data_pipeline_tests.transforms.markets import QUARTERS


def test_whole_days_of_a_month_are_decoded_at_once_unless_a_column_tells_the_day(
    local: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(local.store)
    decode, decoded = pq.ParquetFile.read_row_groups, []

    def noted(file: pq.ParquetFile, groups: list[int], **asked: Any) -> Any:
        decoded.append(list(groups))
        return decode(file, groups, **asked)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", noted)
    # the first day is wanted in part; two of them are of July
    place = (local.store, TECHNICAL, PERP, Window(midnight(DAYS[0]) + QUARTERS.length, midnight(LAST) + ONE_DAY))
    names = ["timestamp", "log_return", "instrument_id"]
    found = stored_rows(*place, names, QUARTERS)
    assert decoded == [[0], [1], list(range(8))]
    decoded.clear()
    dated = stored_rows(*place, [*names, "date"], QUARTERS)
    assert decoded == [[0], [1], *([group] for group in range(8))]
    assert dated.select(names).equals(found)
    assert found.num_rows == 10 * 96 - 1
    assert dated.column("date").to_pylist() == [each.date() for each in dated.column("timestamp").to_pylist()]
