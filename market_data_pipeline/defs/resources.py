"""Resources: the lake's store. Each opens a plain object that knows no Dagster."""

import dagster as dg
from pydantic import Field, PrivateAttr

from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.settings import Settings


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


def lake_resource(settings: Settings) -> LakeResource:
    """The lake of the settings; Google's libraries are loaded only for a lake on Google Cloud Storage."""
    if settings.lake.startswith("gs:"):
        from market_data_pipeline.defs.gcs import gcs_lake_resource

        return gcs_lake_resource(settings)
    return LakeResource(url=settings.lake, buckets=dict(settings.buckets))
