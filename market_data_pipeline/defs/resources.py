"""Resources: the lake's store. Each opens a plain object that knows no Dagster."""

import dagster as dg
from pydantic import Field, PrivateAttr

from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.lake.stores.contract import ObjectStore


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The lake's store, opened on first use.

    Attributes:
        url: a folder, `gs://bucket[/prefix]` or `gs://`.
        buckets: other names for buckets, with `gs://` alone.
    """

    url: str
    buckets: dict[str, str] = Field(default_factory=dict)
    _store: ObjectStore | None = PrivateAttr(default=None)

    def open(self) -> ObjectStore:
        """The store; the same one on every call."""
        if self._store is None:
            self._store = self._opened()
        return self._store

    def _opened(self) -> ObjectStore:
        return open_store(self.url, self.buckets)
