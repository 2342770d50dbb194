"""What rows are made from that come out of the lake."""

from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest

from market_data_pipeline.defs.inputs import Inputs
from market_data_pipeline.defs.lineage import lineage
from market_data_pipeline.lake.day_files import own_rows
from market_data_pipeline.lake.derived import first_candles
from market_data_pipeline.lake.master import INSTRUMENTS, listed_rows
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.writer import write_days
from market_data_pipeline.model.contracts import Contract, VolumeUnit
from market_data_pipeline.model.datasets import LISTING_SCHEMA
from market_data_pipeline.model.rows import DayRows
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.lake.made_up import ALL, PERP, SPARSE
from market_data_pipeline_tests.lake.test_derived import DAY, MINUTES, file


def _master(store: ObjectStore, multiplier: float) -> None:
    row = dict.fromkeys(LISTING_SCHEMA.names) | {
        "instrument_id": PERP.id,
        "venue": PERP.venue,
        "instrument_type": PERP.type.folder,
        "base_asset": PERP.base,
        "quote_asset": PERP.quote,
        "settle_asset": PERP.base,
        "venue_symbol": "BTC-PERPETUAL",
        "inverse": True,
        "contract_multiplier": multiplier,
        "known_from": "listing",
    }
    table = pa.Table.from_pylist([row], LISTING_SCHEMA)
    write_days(store, INSTRUMENTS, [DAY], ALL, [listed_rows(store, DAY, ALL, lambda *_: table)])


@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_master_that_is_corrected_while_candles_are_made_makes_them_again(
    local_store: ObjectStore, meanwhile: bool
) -> None:
    def run(between: Callable[[], None] = lambda: None) -> float:
        rows = first_candles(local_store, [DAY], ALL, lambda _: Contract(True, None, VolumeUnit.CONTRACTS), SPARSE)
        told = Inputs(local_store, lineage(Settings().signals)["ohlcv_1m"], lambda *_: "").told(rows)

        def stream() -> Iterator[DayRows]:
            for each in told:
                between()
                yield each

        write_days(local_store, MINUTES, [DAY], ALL, stream())
        key = MINUTES.path(MINUTES.layouts[0], DAY, PERP)
        value: float = own_rows(local_store, MINUTES, key).column("quote_volume")[0].as_py()
        return value

    file(local_store, DAY, PERP, (5, 50.0))
    _master(local_store, 10.0)
    run((lambda: _master(local_store, 100.0)) if meanwhile else lambda: None)
    _master(local_store, 100.0)
    assert run() == 100.0
