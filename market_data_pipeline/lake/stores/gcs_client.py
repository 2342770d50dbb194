"""Google's client, made from the environment."""

import os

from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import storage

from market_data_pipeline.model.errors import SettingError

_HOSTS = 10
_CONNECTIONS = 64  # those of a step, and of readers beside it


def without_background_requests() -> None:
    """Keeps clients from asking for each bucket's metadata, which newer ones do for telemetry, used or not.

    It would cost a request, and one that fails where the credentials have rights to objects only. The client's own
    setting is an environment variable; one that is set already stays as it is.
    """
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")


def _for_many_requests(client: storage.Client) -> storage.Client:
    """The client, with connections that stay open for as many requests at once as are made.

    Its session keeps ten by itself; beyond these each request would have one of its own.
    """
    for adapter in client._http.adapters.values():  # the client gives its session out by no other name
        adapter.init_poolmanager(connections=_HOSTS, maxsize=_CONNECTIONS)
    return client


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
        return _for_many_requests(
            storage.Client(
                project=project or "emulator",
                credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
                client_options={"api_endpoint": endpoint.rstrip("/")},
            )
        )
    try:
        return _for_many_requests(storage.Client(project=project))
    except DefaultCredentialsError as error:
        raise SettingError(
            "no Google credentials were found: run `gcloud auth application-default login`, or let "
            "GOOGLE_APPLICATION_CREDENTIALS name a key file"
        ) from error
