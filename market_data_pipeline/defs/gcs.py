"""The lake on Google Cloud Storage, by dagster-gcp's client; slow to import, so only a lake that needs it does."""

import os

import dagster as dg
from dagster_gcp import GCSResource

from market_data_pipeline.defs.resources import LakeResource
from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.settings import Settings


class GcsLakeResource(LakeResource):
    """The lake's store in buckets, by the client that dagster-gcp makes; by one of ours for a test server.

    Attributes:
        emulator: the test server's address, or empty. dagster-gcp's client would know only the environment's, and with
            credentials at hand write to the real bucket.
    """

    gcs: dg.ResourceDependency[GCSResource]
    emulator: str = ""

    def _opened(self) -> ObjectStore:
        client = None if self.emulator else self.gcs.get_client()
        return open_store(self.url, self.buckets, client=client, emulator=self.emulator)


def gcs_lake_resource(settings: Settings) -> GcsLakeResource:
    """The lake of the settings on Google Cloud Storage; a test server (STORAGE_EMULATOR_HOST) has no project."""
    project = "test" if os.environ.get("STORAGE_EMULATOR_HOST") else None
    return GcsLakeResource(
        url=settings.lake, buckets=dict(settings.buckets), gcs=GCSResource(project=project), emulator=settings.emulator
    )
