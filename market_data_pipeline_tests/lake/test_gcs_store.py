"""What is particular to Google Cloud Storage: few requests, faults, places, messages. On our own server only."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import google.auth
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.auth.exceptions import DefaultCredentialsError, RefreshError

from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.lake.stores.contract import ALWAYS, Expect, ObjectInfo, ObjectStore
from market_data_pipeline.lake.stores.gcs import TAIL_BYTES, GcsStore, client_from_environment
from market_data_pipeline.lake.stores.local import LocalStore
from market_data_pipeline.model.datasets import ROOTS
from market_data_pipeline.model.errors import LakeError, ObjectChanged, ObjectNotFound, SettingError
from market_data_pipeline_tests.gcs_server import GcsServer, Request
from market_data_pipeline_tests.store_fixtures import Ground, gcs_ground, open_gcs

R = "market-data-meta"
K = f"{R}/by_date/one.bin"
COPY = f"{R}/by_venue/one.bin"
LARGE = random.Random(3).randbytes(9 * 1024 * 1024)


@pytest.fixture
def own(gcs_server: GcsServer) -> Ground:
    """A store on our own server, whatever the environment says."""
    return gcs_ground(gcs_server.url)


@pytest.fixture
def store(own: Ground) -> ObjectStore:
    return own.store


def put(store: ObjectStore, data: bytes, *keys: str, expect: Expect = ALWAYS) -> None:
    with store.stage() as path:
        path.write_bytes(data)
        store.put(path, keys, expect=expect)


def read(store: ObjectStore, key: str) -> bytes:
    with store.open(key) as pinned:
        return bytes(pinned.file.read())


def is_write(request: Request) -> bool:
    return request.path.startswith("/upload")


def is_rewrite(request: Request) -> bool:
    return "/rewriteTo/" in request.path


def is_delete(request: Request) -> bool:
    return request.method == "DELETE"


def is_list(request: Request) -> bool:
    return request.method == "GET" and request.path.endswith("/o")


def served(server: GcsServer) -> list[tuple[str, int]]:
    """What was asked for since the last time, in short."""
    short = []
    for request in server.requests:
        kind = "LIST" if is_list(request) else "MEDIA" if request.is_media else request.method
        short.append(("REWRITE" if is_rewrite(request) else kind, request.status))
    server.requests.clear()
    return short


# Requests


def test_a_small_object_is_opened_and_read_with_one_request(own: Ground, gcs_server: GcsServer) -> None:
    own.write(K, b"x" * (TAIL_BYTES - 1))
    gcs_server.requests.clear()
    assert read(own.store, K) == b"x" * (TAIL_BYTES - 1)
    assert served(gcs_server) == [("MEDIA", 206)]


def test_a_large_object_takes_one_more_to_learn_its_size(own: Ground, gcs_server: GcsServer) -> None:
    own.write(K, LARGE)
    gcs_server.requests.clear()
    with own.store.open(K) as pinned:
        assert pinned.info.size == len(LARGE)
        assert served(gcs_server) == [("MEDIA", 206), ("GET", 200)]
        assert bytes(pinned.file.read_at(100, len(LARGE) - 100)) == LARGE[-100:]
        assert served(gcs_server) == []  # it lies in the tail
        assert bytes(pinned.file.read_at(100, 5)) == LARGE[5:105]
        (request,) = gcs_server.requests
        assert request.headers["range"] == "bytes=5-104"
        assert request.query["generation"]
    with own.store.open(K):
        pass
    assert len(served(gcs_server)) == 3  # as before: nothing is kept of an object that was only read


def test_a_listed_or_written_object_is_opened_with_one_request(own: Ground, gcs_server: GcsServer) -> None:
    own.write(K, LARGE)
    put(own.store, LARGE, f"{R}/written")
    list(own.store.list(f"{R}/by_date/"))
    gcs_server.requests.clear()
    for key in (K, f"{R}/written"):
        with own.store.open(key) as pinned:
            assert pinned.info.size == len(LARGE)
    assert served(gcs_server) == [("MEDIA", 206)] * 2
    own.write(K, LARGE[:-1])  # what was listed holds for that generation only
    with own.store.open(K) as pinned:
        assert pinned.info.size == len(LARGE) - 1


def test_one_row_group_of_a_parquet_file_is_not_the_whole_file(own: Ground, gcs_server: GcsServer) -> None:
    noise = random.Random(4)
    table = pa.table({name: pa.array([noise.random() for _ in range(100_000)]) for name in "ab"})
    with own.store.stage() as path:
        pq.write_table(table, path, row_group_size=20_000)
        own.store.put(path, [K])
    gcs_server.requests.clear()
    with own.store.open(K) as pinned:
        got = pq.ParquetFile(pinned.file, pre_buffer=True).read_row_group(1, columns=["a"])
    assert got.column("a").equals(table.column("a").slice(20_000, 20_000))
    sizes = [len(request.query) and int(_length(request)) for request in gcs_server.requests if request.is_media]
    assert len(sizes) == 2
    assert sum(sizes) < TAIL_BYTES + 200_000


def _length(request: Request) -> int:
    first, last = request.headers["range"].removeprefix("bytes=").split("-")
    return int(last) - int(first) + 1 if first else int(last)


def test_a_put_is_one_upload_and_one_copy_for_each_further_key(store: ObjectStore, gcs_server: GcsServer) -> None:
    gcs_server.requests.clear()
    put(store, b"x", K, COPY, f"{R}/third")
    assert served(gcs_server) == [("POST", 200), ("REWRITE", 200), ("REWRITE", 200)]
    put(store, LARGE, K)
    assert served(gcs_server) == [("POST", 200), ("PUT", 200)]


def test_a_listing_asks_for_pages_and_only_for_what_it_needs(own: Ground, gcs_server: GcsServer) -> None:
    names = [f"{R}/{n:02}" for n in range(7)]
    for name in names:
        own.write(name, b"x")
    gcs_server.requests.clear()
    gcs_server.page_size = 3
    listing = own.store.list(f"{R}/")
    assert served(gcs_server) == []
    assert next(listing).key == names[0]
    assert served(gcs_server) == [("LIST", 200)]
    assert [info.key for info in listing] == names[1:]
    assert all(request.query["fields"].startswith("items(name,size") for request in gcs_server.requests)
    assert served(gcs_server) == [("LIST", 200)] * 2
    (info,) = own.store.list(names[3])
    assert len(served(gcs_server)) == 1
    own.store.crc32c(info)
    assert served(gcs_server) == []  # the listing told it


# Faults


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_fails_for_a_moment_is_tried_again(own: Ground, gcs_server: GcsServer, status: int) -> None:
    own.write(K, LARGE)
    for matches in (is_write, is_list, is_rewrite, is_delete, lambda request: request.is_media):
        gcs_server.fail(matches, status, times=2)
    assert [info.key for info in own.store.list(f"{R}/")] == [K]
    assert read(own.store, K) == LARGE
    put(own.store, b"small", K, COPY)
    assert own.get(K) == own.get(COPY) == b"small"
    with own.store.open(K) as pinned:
        own.store.delete(K, expect=pinned)
    put(own.store, b"again", K, expect=None)
    assert own.get(K) == b"again"
    assert all(fault.times == 0 for fault in gcs_server.faults)


def test_what_fails_for_good_is_an_error(own: Ground, gcs_server: GcsServer) -> None:
    own.write(K, b"x")
    gcs_server.fail(lambda _: True, 501, times=1000)
    for call in (
        lambda: own.store.open(K),
        lambda: list(own.store.list(f"{R}/")),
        lambda: put(own.store, b"y", K),
        lambda: own.store.delete(K),
        lambda: own.store.crc32c(ObjectInfo(K, 1)),
    ):
        with pytest.raises(LakeError, match=r"cannot be .*501") as caught:
            call()
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize("size", [1000, TAIL_BYTES - 1, TAIL_BYTES, 3 * TAIL_BYTES])
def test_a_break_midway_through_a_read_leaves_no_gap_and_no_doubled_bytes(
    own: Ground, gcs_server: GcsServer, size: int
) -> None:
    own.write(K, LARGE[:size])
    gcs_server.cut_body(lambda request: request.is_media, after=min(size, TAIL_BYTES) // 3, times=2)
    with own.store.open(K) as pinned:
        assert pinned.info.size == size
        gcs_server.cut_body(lambda request: request.is_media, after=7)
        assert bytes(pinned.file.read()) == LARGE[:size]


def test_bytes_that_were_damaged_on_the_way_are_noticed(own: Ground, gcs_server: GcsServer) -> None:
    own.write(K, b"right")
    (stored,) = gcs_server.memory.bucket(own.store.places[R][0]).values()
    object.__setattr__(stored, "data", b"wrong")  # the checksum was told already
    with pytest.raises(LakeError, match="arrived damaged"):
        own.store.open(K)


def test_an_upload_that_is_damaged_on_the_way_is_refused(
    own: Ground, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from market_data_pipeline.lake.stores import gcs_objects

    monkeypatch.setattr(gcs_objects, "crc32c_of", lambda file: len(file.read()))
    for data in (b"small", LARGE):
        with pytest.raises(LakeError, match="doesn't match"):
            put(own.store, data, K)
    assert own.names() == set()


@pytest.mark.parametrize("size", [10, len(LARGE)])
@pytest.mark.parametrize("expecting", ["anything", "nothing", "the pinned one"])
def test_a_lost_answer_to_a_write_is_no_lost_write(
    own: Ground, gcs_server: GcsServer, size: int, expecting: str
) -> None:
    if expecting != "nothing":
        own.write(K, b"old")
    gcs_server.lose_answer(lambda request: is_write(request) and request.method != "GET", times=2)
    data = LARGE[:size]
    if expecting == "the pinned one":
        with own.store.open(K) as pinned:
            put(own.store, data, K, expect=pinned)
    else:
        put(own.store, data, K, expect=ALWAYS if expecting == "anything" else None)
    assert own.get(K) == data
    assert own.store.bytes_written == size
    writes = [request for request in gcs_server.requests if is_write(request) and request.query.get("name") is None]
    assert len({request.body for request in writes if size == 10}) <= 1


def test_a_lost_answer_to_a_conditional_write_is_not_taken_for_anothers_equal_one(
    own: Ground, gcs_server: GcsServer
) -> None:
    """Two that publish the same bytes: the one that lost must hear of it, or a change would be lost."""
    own.write(K, b"old")
    with own.store.open(K) as pinned:
        put(own.again(), b"same", K)
        gcs_server.fail(is_write, 503)
        with pytest.raises(ObjectChanged):
            put(own.store, b"same", K, expect=pinned)


def test_a_repeated_unconditional_write_goes_onto_what_was_seen_there(own: Ground, gcs_server: GcsServer) -> None:
    own.write(K, b"old")
    gcs_server.fail(is_write, 503)
    gcs_server.requests.clear()
    put(own.store, b"new", K)
    first, second = (request for request in gcs_server.requests if is_write(request))
    assert "ifGenerationMatch" not in first.query
    assert int(second.query["ifGenerationMatch"]) > 0
    assert own.get(K) == b"new"


def test_an_unconditional_write_wins_over_one_that_came_in_between(own: Ground, gcs_server: GcsServer) -> None:
    """Somebody publishes between the look and the repeated write, which is refused and must look again."""

    def change(request: Request) -> None:
        if request.method == "GET":
            gcs_server.after = None
            own.write(K, b"in between")

    gcs_server.after = change
    gcs_server.fail(is_write, 503)
    put(own.store, b"new", K)
    assert gcs_server.after is None
    assert ("POST", 412) in served(gcs_server)
    assert own.get(K) == b"new"


def test_a_lost_answer_to_a_delete_is_no_error(own: Ground, gcs_server: GcsServer) -> None:
    own.write(K, b"x")
    with own.store.open(K) as pinned:
        gcs_server.lose_answer(is_delete)
        own.store.delete(K, expect=pinned)
        assert own.names() == set()
        with pytest.raises(ObjectChanged):
            own.store.delete(K, expect=pinned)
    own.write(K, b"x")
    gcs_server.lose_answer(is_delete)
    own.store.delete(K)
    assert own.names() == set()


def test_a_delete_of_whatever_is_there_does_not_stop_at_a_newer_object(own: Ground, gcs_server: GcsServer) -> None:
    own.write(K, b"x")
    changed = []

    def change(request: Request) -> None:
        if request.method == "GET" and not changed:
            changed.append(True)
            own.write(K, b"newer")

    gcs_server.after = change
    own.store.delete(K)
    assert changed
    assert own.get(K) is None


def test_an_object_replaced_while_it_is_read_says_so(own: Ground) -> None:
    own.write(K, LARGE)
    with own.store.open(K) as pinned:
        own.write(K, LARGE)
        assert bytes(pinned.file.read_at(10, len(LARGE) - 10)) == LARGE[-10:]  # at hand
        with pytest.raises(ObjectChanged, match="was replaced or removed while it was read; open it again"):
            pinned.file.read_at(10, 0)


def test_parquet_lets_the_news_of_a_replaced_object_through(own: Ground) -> None:
    noise = random.Random(5)
    table = pa.table({"a": pa.array([noise.random() for _ in range(100_000)])})
    with own.store.stage() as path:
        pq.write_table(table, path)
        own.store.put(path, [K])
    for pre_buffer in (True, False):
        with own.store.open(K) as pinned:
            put(own.store, (own.get(K) or b""), K)
            file = pq.ParquetFile(pinned.file, pre_buffer=pre_buffer)
            with pytest.raises(ObjectChanged, match="open it again"):
                file.read()


def test_an_object_replaced_between_two_requests_is_opened_anew(own: Ground, gcs_server: GcsServer) -> None:
    own.write(K, LARGE)
    changes = iter([b"", LARGE[::-1], LARGE[:500]])

    def change(request: Request) -> None:
        data = next(changes, None) if request.is_media else None
        if data is not None:
            gcs_server.after = None
            own.write(K, data)
            gcs_server.after = change

    gcs_server.after = change
    assert read(own.store, K) == LARGE[:500]


# Copies


def test_a_copy_may_take_several_requests(own: Ground, gcs_server: GcsServer) -> None:
    gcs_server.rewrite_step = 400
    put(own.store, b"z" * 1000, K, COPY, f"{R}/third")
    assert own.get(COPY) == own.get(f"{R}/third") == b"z" * 1000
    assert [kind for kind, _ in served(gcs_server)].count("REWRITE") == 6
    assert own.store.bytes_written == 1000


def test_a_copy_goes_on_after_a_fault_in_its_midst(own: Ground, gcs_server: GcsServer) -> None:
    gcs_server.rewrite_step = 400
    gcs_server.fail(lambda request: is_rewrite(request) and "rewriteToken" in request.query)
    put(own.store, b"z" * 1000, K, COPY)
    assert own.get(COPY) == b"z" * 1000
    assert [kind for kind, _ in served(gcs_server)].count("REWRITE") == 4


def test_a_lost_answer_to_a_copy_is_no_second_copy(own: Ground, gcs_server: GcsServer) -> None:
    gcs_server.lose_answer(is_rewrite)
    put(own.store, b"z", K, COPY)
    assert own.get(COPY) == b"z"
    assert [kind for kind, _ in served(gcs_server)].count("REWRITE") == 1


def test_a_copy_is_of_what_was_uploaded_even_if_that_was_replaced(own: Ground, gcs_server: GcsServer) -> None:
    def change(request: Request) -> None:
        if is_write(request):
            gcs_server.after = None
            own.write(K, b"somebody else's")

    gcs_server.after = change
    put(own.store, b"mine", K, COPY)
    assert own.get(K) == b"somebody else's"
    assert own.get(COPY) == b"mine"
    assert own.store.bytes_written == 8


# Places and messages


def test_a_prefix_stands_before_the_names(gcs_server: GcsServer) -> None:
    gcs_server.memory.create("one-bucket") if "one-bucket" not in gcs_server.memory.buckets else None
    objects = gcs_server.memory.bucket("one-bucket")
    for url, name in (("gs://one-bucket", K), ("gs://one-bucket/", K), ("gs://one-bucket/a/b/", f"a/b/{K}")):
        objects.clear()
        opened = open_gcs(gcs_server.url, url)
        put(opened, b"x", K)
        assert list(objects) == [name]
        assert opened.uri_of(K) == f"gs://one-bucket/{name}"
        assert [info.key for info in opened.list(f"{R}/")] == [K]


def test_each_root_may_be_a_bucket_of_its_own(gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    for name in ("my-ticks", "market-data-meta"):
        gcs_server.memory.create(name)
    opened = open_store("gs://", {"market-data-tick": "my-ticks", "market-data-meta": ""})
    put(opened, b"t", "market-data-tick/raw/x")
    put(opened, b"m", f"{R}/y")
    assert list(gcs_server.memory.bucket("my-ticks")) == ["raw/x"]
    assert list(gcs_server.memory.bucket("market-data-meta")) == ["y"]
    assert opened.uri_of("market-data-tick/raw/x") == "gs://my-ticks/raw/x"
    assert [info.key for info in opened.list("market-data-tick/")] == ["market-data-tick/raw/x"]
    with pytest.raises(LakeError, match="bucket market-data-candles does not exist; create it"):
        list(opened.list("market-data-candles/"))


@pytest.mark.parametrize("text", ["elsewhere/x", "elsewhere", "market-data-meta"])
def test_what_lies_in_no_root_is_refused(store: ObjectStore, text: str) -> None:
    with pytest.raises(LakeError, match="root"):
        store.list(text)
    with pytest.raises(LakeError, match="root"):
        store.open(text)


def test_a_missing_bucket_is_named_by_every_call(gcs_server: GcsServer) -> None:
    store = open_gcs(gcs_server.url, "gs://no-such-bucket/lake")
    for call in (
        lambda: store.open(K),
        lambda: list(store.list(f"{R}/")),
        lambda: list(store.list(K)),
        lambda: put(store, b"x", K),
        lambda: put(store, b"x", K, expect=None),
        lambda: put(store, LARGE, K),
        lambda: store.delete(K),
        lambda: store.delete(K, expect=None),
        lambda: store.crc32c(ObjectInfo(K, 1)),
    ):
        with pytest.raises(LakeError, match="bucket no-such-bucket does not exist; create it") as caught:
            call()
        assert not isinstance(caught.value, ObjectNotFound | ObjectChanged)
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize(("status", "advice"), [(401, "gcloud auth"), (403, "roles/storage.objectAdmin")])
def test_what_the_credentials_may_not_do_is_explained(
    own: Ground, gcs_server: GcsServer, status: int, advice: str
) -> None:
    own.write(K, b"x")
    gcs_server.fail(lambda _: True, status, times=100)
    for call in (
        lambda: own.store.open(K),
        lambda: list(own.store.list(f"{R}/")),
        lambda: put(own.store, b"y", K),
        lambda: own.store.delete(K),
    ):
        with pytest.raises(LakeError, match=advice) as caught:
            call()
        assert "bucket lake-" in str(caught.value)


def test_credentials_that_have_expired_are_explained(own: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def expired(*args: Any, **kwargs: Any) -> Any:
        raise RefreshError("reauthentication is needed")

    monkeypatch.setattr(own.store._client, "_http_internal", type("Http", (), {"request": expired})())
    with pytest.raises(LakeError, match=r"reauthentication is needed.*gcloud auth"):
        own.store.open(K)


def test_a_server_that_cannot_be_reached_is_an_error() -> None:
    store = open_gcs("http://127.0.0.1:9", "gs://bucket")
    quick = GcsStore(store._client, store.places, retry=store._retry.with_timeout(0.1))
    with pytest.raises(LakeError, match=r"gs://bucket/market-data-meta/by_date/one\.bin cannot be read"):
        quick.open(K)


def test_without_credentials_the_client_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*args: Any, **kwargs: Any) -> Any:
        raise DefaultCredentialsError("none")

    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(google.auth, "default", none)
    with pytest.raises(SettingError, match="gcloud auth application-default login"):
        client_from_environment()


def test_an_emulator_is_asked_without_credentials(gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url.removeprefix("http://"))
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    monkeypatch.setattr(google.auth, "default", lambda *a, **k: pytest.fail("asked for credentials"))
    with pytest.raises(LakeError, match="does not exist"):
        open_store("gs://no-such-bucket").open(K)
    assert all("authorization" not in request.headers for request in gcs_server.requests)
    assert len(gcs_server.requests) == 1  # nothing is asked in the background either


# Opening


@pytest.mark.parametrize("url", ["s3://bucket", "file:///data", "gs:/bucket", "az://x/y", "", " ", "gs:///prefix"])
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(SettingError, match="give a folder, gs://bucket"):
        open_store(url)


@pytest.mark.parametrize("url", ["gs://user:hidden@bucket", "gs://hidden@bucket/prefix", "s3://user:hidden@bucket"])
def test_an_address_with_a_password_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingError, match="holds a user name or password") as caught:
        open_store(url)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("url", ["gs://Bucket", "gs://b", "gs://-bucket", "gs://bucket/a//b", "gs://bucket/../x"])
def test_a_name_that_can_be_no_bucket_or_prefix_is_refused(url: str) -> None:
    with pytest.raises(SettingError):
        open_store(url, client=object())


def test_buckets_must_be_of_roots_and_of_one_root_each() -> None:
    with pytest.raises(SettingError, match="no root"):
        open_store("gs://", {"market-data-ticks": "x"}, client=object())
    with pytest.raises(SettingError, match="bucket of several roots"):
        open_store("gs://", {ROOTS[0]: "same", ROOTS[1]: "same"}, client=object())


def test_a_folder_is_opened_without_the_cloud(tmp_path: Path) -> None:
    assert isinstance(open_store(tmp_path), LocalStore)
    assert open_store(str(tmp_path / "a:b")).uri == str(tmp_path / "a:b")
    assert open_store("~/lake").uri == str(Path("~/lake").expanduser())
    code = f"""
import sys
from market_data_pipeline.lake.stores import open_store
list(open_store({str(tmp_path)!r}).list("market-data-tick/"))
sys.exit(any(name.startswith(("google.cloud", "google.api_core", "google.auth", "requests")) for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
