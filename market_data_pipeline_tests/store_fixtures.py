"""The stores as fixtures, and with each a way round it: straight to the disk, straight to the server."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest

from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.stores.local import LocalStore
from market_data_pipeline.lake.stores.opening import open_store
from market_data_pipeline_tests.gcs_server import GcsServer


@dataclass(frozen=True)
class Ground:
    """What a store stands on.

    Attributes:
        kind: `local` or `gcs`.
        store: the store under test.
        again: opens the same store anew, in this process or (where it can be pickled) in another.
        get: reads an object without the store; None if it is not there.
        write: writes an object without the store, as another program would.
        names: all names that exist, hidden ones too, without the store.
    """

    kind: str
    store: ObjectStore
    again: Callable[[], ObjectStore]
    get: Callable[[str], bytes | None]
    write: Callable[[str, bytes], None]
    names: Callable[[], set[str]]


def local_ground(root: Path) -> Ground:
    """A store in a folder."""

    def get(key: str) -> bytes | None:
        path = root / key
        return path.read_bytes() if path.is_file() else None

    def write(key: str, data: bytes) -> None:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be linked: a new file, not new bytes in the old one
        path.write_bytes(data)

    def names() -> set[str]:
        files = (path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)) for path in files if ".lake/locks" not in str(path)}

    return Ground("local", LocalStore(root), partial(LocalStore, root), get, write, names)


def open_gcs(endpoint: str, url: str) -> ObjectStore:
    """A store of Google Cloud Storage behind an endpoint, which waits little before it tries again."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    from market_data_pipeline.lake.stores.gcs import GcsStore, client_from_environment

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        client = client_from_environment()
    opened = open_store(url, client=client)
    assert isinstance(opened, GcsStore)
    return GcsStore(client, opened.places, uri=url, retry=DEFAULT_RETRY.with_delay(0.01, 0.05, 1.5).with_timeout(20))


def gcs_ground(endpoint: str) -> Ground:
    """A store in a new bucket, under a prefix."""
    bucket, prefix = f"lake-{uuid4().hex[:12]}", "some/prefix/"
    objects = f"{endpoint}/storage/v1/b/{bucket}/o"

    def call(url: str, data: bytes | None = None, kind: str = "application/json") -> bytes:
        request = Request(url, data=data, headers={"Content-Type": kind})
        with urlopen(request, timeout=20) as answer:
            return bytes(answer.read())

    def get(key: str) -> bytes | None:
        try:
            return call(f"{objects}/{quote(prefix + key, safe='')}?alt=media")
        except HTTPError as error:
            if error.code != 404:
                raise
            return None

    def write(key: str, data: bytes) -> None:
        name = quote(prefix + key, safe="")
        call(f"{endpoint}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}", data, "text/plain")

    def names() -> set[str]:
        found, token = set(), ""
        while True:
            page = json.loads(call(f"{objects}?pageToken={quote(token, safe='')}" if token else objects))
            found |= {item["name"].removeprefix(prefix) for item in page.get("items", [])}
            token = page.get("nextPageToken")
            if not token:
                return found

    call(f"{endpoint}/storage/v1/b?project=test", json.dumps({"name": bucket}).encode())
    again = partial(open_gcs, endpoint, f"gs://{bucket}/{prefix}")
    return Ground("gcs", again(), again, get, write, names)


@pytest.fixture(scope="session")
def running_gcs_server() -> Iterator[GcsServer]:
    """Our own server, for the whole run; tests take `gcs_server`."""
    server = GcsServer().start()
    yield server
    server.stop()


@pytest.fixture
def gcs_server(running_gcs_server: GcsServer) -> GcsServer:
    """Our own server, with nothing recorded and no fault."""
    running_gcs_server.reset()
    return running_gcs_server


@pytest.fixture
def local(tmp_path: Path) -> Ground:
    """A local store and the way round it."""
    return local_ground(tmp_path / "lake")


@pytest.fixture
def gcs(gcs_server: GcsServer) -> Ground:
    """A store in a new bucket, and the way round it: of the server that STORAGE_EMULATOR_HOST names, else our own."""
    return gcs_ground(os.environ.get("STORAGE_EMULATOR_HOST") or gcs_server.url)


@pytest.fixture
def local_store(local: Ground) -> ObjectStore:
    """An empty local store."""
    return local.store


@pytest.fixture
def gcs_store(gcs: Ground) -> ObjectStore:
    """An empty store of Google Cloud Storage."""
    return gcs.store


@pytest.fixture(params=["local", "gcs"])
def ground(request: pytest.FixtureRequest) -> Ground:
    """Each kind of store, with the way round it."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Ground)
    return found


@pytest.fixture
def store(ground: Ground) -> ObjectStore:
    """Each kind of store, empty."""
    return ground.store
