"""Google's client, made from the environment."""

import os

from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import storage

from market_data_pipeline.model.errors import SettingError


def client_from_environment() -> storage.Client:
    """A client with the environment's credentials; without any for an emulator (STORAGE_EMULATOR_HOST).

    Raises:
        SettingError: no credentials were found.
    """
    # Otherwise some versions of the client ask for the bucket's metadata in the background, for telemetry only.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    # No project is needed for objects; None keeps the client from searching for one.
    project = os.environ.get("GOOGLE_CLOUD_PROJECT")
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if emulator:
        endpoint = emulator if "://" in emulator else f"http://{emulator}"
        return storage.Client(
            project=project or "emulator",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options={"api_endpoint": endpoint.rstrip("/")},
        )
    try:
        return storage.Client(project=project)
    except DefaultCredentialsError as error:
        raise SettingError(
            "no Google credentials were found: run `gcloud auth application-default login`, or let "
            "GOOGLE_APPLICATION_CREDENTIALS name a key file"
        ) from error
