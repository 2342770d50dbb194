"""What Google's libraries raise, as this project's errors: which object or bucket, why, and what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException

from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from urllib3.exceptions import HTTPError

from market_data_pipeline.model.errors import LakeError

# requests' own errors are OSErrors.
_FOREIGN = (GoogleAPIError, GoogleAuthError, DataCorruption, InvalidResponse, HTTPError, HTTPException, OSError)
_NO_BUCKET = re.compile(r"bucket\b[^:/]*\b(does not exist|not found)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object (or, with a name that ends in `/` or is empty, a folder) lies."""

    bucket: str
    name: str

    @property
    def uri(self) -> str:
        """`gs://bucket/name`."""
        return f"gs://{self.bucket}/{self.name}"


def bucket_is_missing(error: Exception) -> bool:
    """True if a 404 is about the bucket, not about an object in it."""
    return _NO_BUCKET.search(str(error)) is not None


@contextmanager
def explained(place: Place, done: str) -> Iterator[None]:
    """Turns the errors of Google's libraries into a LakeError; `done` says what was to be done with the place."""
    try:
        yield
    except LakeError:
        raise
    except _FOREIGN as error:
        raise LakeError(f"{place.uri} cannot be {done}: {_reason(place, error)}") from error


def _reason(place: Place, error: Exception) -> str:
    code = getattr(error, "code", None)
    if code == 401 or isinstance(error, GoogleAuthError):
        return (
            f"Google does not accept the credentials for bucket {place.bucket} ({error}); run `gcloud auth "
            "application-default login`, or let GOOGLE_APPLICATION_CREDENTIALS name a valid key file"
        )
    if code == 403:
        return (
            f"the credentials have no right to this in bucket {place.bucket} ({error}); grant them "
            f"roles/storage.objectAdmin on the bucket, or use others"
        )
    if code == 404 and bucket_is_missing(error):
        return (
            f"bucket {place.bucket} does not exist; create it (`gcloud storage buckets create gs://{place.bucket}`), "
            "or name another one"
        )
    return f"{type(error).__name__}: {error}"
