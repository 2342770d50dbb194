"""Object stores: one contract, the local disk and Google Cloud Storage."""

from market_data_pipeline.lake.stores.opening import open_store

__all__ = ["open_store"]
