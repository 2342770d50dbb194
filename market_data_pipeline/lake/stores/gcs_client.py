"""Google's client, made from the environment."""

import os

from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import storage

from market_data_pipeline.model.errors import SettingError


def without_background_requests() -> None:
    """Keeps clients from asking for each bucket's metadata, which newer ones do for telemetry, used or not.

    It would cost a request, and one that fails where the credentials have rights to objects only. The client's own
    setting is an environment variable; one that is set already stays as it is.
    """
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")


def client_from_environment(emulator: str = "") -> storage.Client:
    """A client with the environment's credentials; without any for an emulator.

    Args:
        emulator: the address of a test server; what STORAGE_EMULATOR_HOST names where it is empty.

    Raises:
        SettingError: no credentials were found.
    """
    without_background_requests()
    # No project is needed for objects; None keeps the client from searching for one.
    project = os.environ.get("GOOGLE_CLOUD_PROJECT")
    emulator = emulator or os.environ.get("STORAGE_EMULATOR_HOST", "")
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
