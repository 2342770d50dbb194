"""Object stores: one contract, the local disk and Google Cloud Storage."""

from market_data_pipeline.lake.stores.opening import folder_at, open_store

__all__ = ["folder_at", "open_store"]
