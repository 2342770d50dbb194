"""A market-data lake with Dagster in front of it: ticks in, candles and a point-in-time availability map out.

    from market_data_pipeline import MarketDataLake

Importing this package loads neither Dagster nor pandas nor any cloud client; the reader is loaded on first use.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from market_data_pipeline.lake.reader import MarketDataLake

__all__ = ["MarketDataLake"]


def __getattr__(name: str) -> object:
    if name == "MarketDataLake":
        from market_data_pipeline.lake.reader import MarketDataLake

        return MarketDataLake
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
