"""What holds for every store. Expectations are set up and looked at round the store, never through it."""

import multiprocessing
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market_data_pipeline.lake.stores.contract import ALWAYS, Expect, ObjectInfo, ObjectStore
from market_data_pipeline.model.errors import LakeError, ObjectChanged, ObjectNotFound
from market_data_pipeline_tests.store_fixtures import Ground

R = "market-data-meta"
K = f"{R}/by_date/one.bin"


def put(store: ObjectStore, data: bytes, *keys: str, expect: Expect = ALWAYS) -> None:
    with store.stage() as path:
        path.write_bytes(data)
        store.put(path, keys, expect=expect)


def read(store: ObjectStore, key: str) -> bytes:
    with store.open(key) as pinned:
        return bytes(pinned.file.read())


def listed(store: ObjectStore, prefix: str) -> list[str]:
    return [info.key for info in store.list(prefix)]


def test_what_is_put_lies_there_and_nothing_else(ground: Ground) -> None:
    put(ground.store, b"hello", K)
    assert ground.get(K) == b"hello"
    assert ground.names() == {K}


def test_what_lies_there_is_read(ground: Ground) -> None:
    ground.write(K, b"0123456789")
    with ground.store.open(K) as pinned:
        assert (pinned.info.key, pinned.info.size) == (K, 10)
        assert pinned.file.size() == 10
        assert bytes(pinned.file.read_at(3, 4)) == b"456"
        assert bytes(pinned.file.read_at(5, 8)) == b"89"
        pinned.file.seek(2)
        assert bytes(pinned.file.read(3)) == b"234"
        assert pinned.file.tell() == 5
        assert bytes(pinned.file.read()) == b"56789"
        assert bytes(pinned.file.read()) == b""


@pytest.mark.parametrize("size", [256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 1_000_003])
def test_any_range_of_a_larger_object_is_read_right(ground: Ground, size: int) -> None:
    data = random.Random(size).randbytes(size)
    ground.write(K, data)
    tail = size - 256 * 1024
    with ground.store.open(K) as pinned:
        assert pinned.info.size == size
        for start, length in ((0, 10), (0, size), (size - 5, 5), (tail - 3, 6), (tail, 1), (tail - 1, 1), (size, 4)):
            begin = max(start, 0)
            assert bytes(pinned.file.read_at(length, begin)) == data[begin : begin + length]


def test_parquet_is_read_through_a_pinned_object(ground: Ground) -> None:
    table = pa.table({"a": pa.array(range(100_000)), "b": pa.array([str(i % 7) for i in range(100_000)])})
    with ground.store.stage() as path:
        pq.write_table(table, path, row_group_size=10_000)
        ground.store.put(path, [K])
    with ground.store.open(K) as pinned:
        assert pq.ParquetFile(pinned.file).read().equals(table)
        assert pq.ParquetFile(pinned.file).read_row_group(3, columns=["a"]).column("a")[0].as_py() == 30_000


@pytest.mark.parametrize("key", [K, f"{R}/none/at/all.bin", f"{K}/below", f"{R}/by_date"])
def test_what_is_not_there_is_not_found(ground: Ground, key: str) -> None:
    ground.write(f"{R}/by_date/other.bin", b"x")
    with pytest.raises(ObjectNotFound, match=key):
        ground.store.open(key)
    with pytest.raises(FileNotFoundError):
        ground.store.crc32c(ObjectInfo(key, 1))


def test_a_listing_is_in_the_order_of_whole_keys(ground: Ground) -> None:
    names = ["c/1", "c/2/3", "c/2-3", "cc/1", "c-x/1", "c.bin", "b/z", "B/a", "c/é", "c/日本", "c/ab", "c/a/b", "d"]
    for name in names:
        ground.write(f"{R}/{name}", name.encode())
    expected = sorted(f"{R}/{name}" for name in names)
    assert listed(ground.store, f"{R}/") == expected
    assert {info.key: info.size for info in ground.store.list(f"{R}/")} == {
        f"{R}/{name}": len(name.encode()) for name in names
    }


def test_a_folder_is_not_its_namesakes(ground: Ground) -> None:
    for name in ("c/1", "cc/1", "c-x/1", "c", "c1"):
        if not (ground.kind == "local" and name == "c"):  # a folder and a file of one name: only in the cloud
            ground.write(f"{R}/{name}", b"")
    assert listed(ground.store, f"{R}/c/") == [f"{R}/c/1"]


def test_a_whole_key_lists_itself_only(ground: Ground) -> None:
    for name in ("a.bin", "a.bin2", "a.bi"):
        ground.write(f"{R}/{name}", b"xyz")
    assert [(info.key, info.size) for info in ground.store.list(f"{R}/a.bin")] == [(f"{R}/a.bin", 3)]
    assert listed(ground.store, f"{R}/a") == []
    assert listed(ground.store, f"{R}/nothing/") == []
    assert listed(ground.store, f"{R}/a.bin/") == []


def test_hidden_names_are_outside_every_listing(ground: Ground) -> None:
    for name in (".tmp/x", "a/.hidden", "a/.tmp/y", "a/seen"):
        ground.write(f"{R}/{name}", b"")
    with ground.store.stage() as path:
        path.write_bytes(b"half")
        assert listed(ground.store, f"{R}/") == [f"{R}/a/seen"]


@pytest.mark.parametrize("prefix", ["", "/", f"/{R}/", f"{R}//", f"{R}/../", f"{R}/.lake/", "../x", f"{R}/a\\b", "a\0"])
def test_a_prefix_of_neither_form_is_refused_at_once(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(LakeError, match="no prefix"):
        store.list(prefix)


NO_KEYS = ["", "/", "..", f"/{R}/a", *(f"{R}/{end}" for end in ("a/", "/a", "../a", "./a", ".a", "a/.."))]
NO_KEYS += [f"{R}/a\\b", f"{R}/a\0", f"{R}/\n", f"{R}/\ud800"]


@pytest.mark.parametrize("key", NO_KEYS)
def test_what_can_be_no_key_is_refused_everywhere(ground: Ground, key: str) -> None:
    for call in (
        lambda: ground.store.open(key),
        lambda: ground.store.delete(key),
        lambda: ground.store.uri_of(key),
        lambda: put(ground.store, b"x", key),
        lambda: put(ground.store, b"x", f"{R}/fine", key),
    ):
        with pytest.raises(LakeError, match="no key"):
            call()
    assert ground.names() == set()


@pytest.mark.parametrize(
    "name",
    [
        "binance:SPOT_PAIR:BTC-USDT.parquet",
        "a b",
        "100%2F.bin",
        "q?x=1&y#z",
        "+~*[]",
        "é",
        "日本",
        "e\u0301",
        "😀",
        "a..b",
    ],
)
def test_odd_but_legal_names_come_back_as_they_were(ground: Ground, name: str) -> None:
    key = f"{R}/odd/{name}"
    put(ground.store, name.encode(), key, f"{R}/copy/{name}")
    assert ground.names() == {key, f"{R}/copy/{name}"}
    assert ground.get(key) == name.encode()
    assert listed(ground.store, f"{R}/odd/") == [key]
    assert listed(ground.store, key) == [key]
    assert read(ground.store, f"{R}/copy/{name}") == name.encode()
    assert ground.store.uri_of(key).endswith(key)
    ground.store.delete(key)
    assert ground.names() == {f"{R}/copy/{name}"}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.text(st.characters(codec="utf-8"), max_size=6), min_size=1, max_size=3), data=st.binary())
def test_any_text_is_refused_or_comes_back(ground: Ground, parts: list[str], data: bytes) -> None:
    key = "/".join([R, *parts])
    try:
        ground.store.uri_of(key)
    except LakeError:
        with pytest.raises(LakeError):
            put(ground.store, data, key)
        return
    put(ground.store, data, key)
    assert ground.get(key) == data
    assert listed(ground.store, key) == [key]
    assert key in listed(ground.store, f"{R}/")
    ground.store.delete(key)
    assert ground.names() == set()


def test_one_file_is_put_under_three_keys_and_counted_once(ground: Ground) -> None:
    keys = [f"{R}/by_date/x", f"{R}/by_venue/x", f"{R}/by_type/x"]
    data = b"0123456789" * 100
    put(ground.store, data, *keys)
    assert [ground.get(key) for key in keys] == [data] * 3
    assert ground.names() == set(keys)
    assert ground.store.bytes_written == 1000
    put(ground.store, b"new", *keys[:2])
    assert [ground.get(key) for key in keys] == [b"new", b"new", data]
    assert ground.store.bytes_written == 1003


def test_the_same_staged_file_may_be_put_twice(ground: Ground) -> None:
    with ground.store.stage() as path:
        path.write_bytes(b"x")
        ground.store.put(path, [K, f"{R}/b"])
        ground.store.put(path, [K, f"{R}/c"])
    assert ground.names() == {K, f"{R}/b", f"{R}/c"}


def test_a_staged_file_is_gone_afterwards_published_or_not(ground: Ground) -> None:
    with suppress(ZeroDivisionError), ground.store.stage() as path:
        assert path.read_bytes() == b""
        path.write_bytes(b"x")
        raise ZeroDivisionError
    assert not path.exists()
    with ground.store.stage() as path:
        path.write_bytes(b"x")
        ground.store.put(path, [K])
    assert not path.exists()
    assert ground.names() == {K}


def test_nothing_is_put_without_a_key_or_a_file(ground: Ground) -> None:
    with ground.store.stage() as path, pytest.raises(LakeError, match="at least one key"):
        ground.store.put(path, [])
    with pytest.raises(LakeError, match="cannot be"):
        ground.store.put(path, [K])
    assert ground.names() == set()


def test_an_empty_object_is_an_object(ground: Ground) -> None:
    put(ground.store, b"", K, f"{R}/copy")
    assert ground.get(K) == ground.get(f"{R}/copy") == b""
    with ground.store.open(K) as pinned:
        assert pinned.info.size == pinned.file.size() == 0
        assert bytes(pinned.file.read()) == b""
    (info,) = ground.store.list(K)
    assert (info.size, ground.store.crc32c(info)) == (0, 0)
    with ground.store.open(K) as pinned:
        put(ground.store, b"full", K, expect=pinned)
    assert ground.get(K) == b"full"


def test_a_large_object_goes_there_and_back(ground: Ground) -> None:
    data = random.Random(1).randbytes(17 * 1024 * 1024 + 5)  # more than one request can carry, and more than one chunk
    put(ground.store, data, K)
    assert ground.get(K) == data
    assert read(ground.store, K) == data
    assert ground.store.bytes_written == len(data)


def test_the_checksum_is_that_of_the_content(ground: Ground) -> None:
    ground.write(K, b"123456789")
    (info,) = ground.store.list(K)
    assert ground.store.crc32c(info) == 0xE3069283  # the standard's own example
    assert ground.store.crc32c(ObjectInfo(K, 9)) == 0xE3069283
    put(ground.store, b"987654321", K)
    assert ground.store.crc32c(ObjectInfo(K, 9)) == google_crc32c.value(b"987654321")
    with ground.store.open(K) as pinned:
        assert pinned.info.crc32c in {None, google_crc32c.value(b"987654321")}


def test_expecting_nothing(ground: Ground) -> None:
    put(ground.store, b"first", K, expect=None)
    with pytest.raises(ObjectChanged, match=K):
        put(ground.store, b"second", K, expect=None)
    assert ground.get(K) == b"first"
    with pytest.raises(ObjectChanged, match=K):
        ground.store.delete(K, expect=None)
    assert ground.get(K) == b"first"
    ground.store.delete(f"{R}/none", expect=None)


def test_expecting_what_was_read(ground: Ground) -> None:
    ground.write(K, b"old")
    with ground.store.open(K) as pinned:
        put(ground.store, b"new", K, expect=pinned)
        assert ground.get(K) == b"new"
        with pytest.raises(ObjectChanged, match=K):
            put(ground.store, b"newer", K, expect=pinned)
    assert ground.get(K) == b"new"
    assert ground.names() == {K}
    with ground.store.open(K) as pinned:
        ground.store.delete(K, expect=pinned)
    assert ground.names() == set()


@pytest.mark.parametrize("change", ["replaced", "replaced by equal bytes", "removed", "removed and made again"])
def test_expecting_what_somebody_has_changed(ground: Ground, change: str) -> None:
    ground.write(K, b"old")
    other = ground.again()
    with ground.store.open(K) as pinned:
        if change.startswith("removed"):
            other.delete(K)
        if change != "removed":
            put(other, b"old" if "equal" in change else b"new", K)
        before = ground.get(K)
        with pytest.raises(ObjectChanged, match=K):
            put(ground.store, b"mine", K, expect=pinned)
        with pytest.raises(ObjectChanged, match=K):
            ground.store.delete(K, expect=pinned)
    assert ground.get(K) == before


def test_a_precondition_is_for_one_key_and_its_own_object(ground: Ground, local_store: ObjectStore) -> None:
    ground.write(K, b"x")
    with pytest.raises(LakeError, match="one key"):
        put(ground.store, b"y", K, f"{R}/b", expect=None)
    with ground.store.open(K) as pinned, pytest.raises(LakeError, match="another object"):
        put(ground.store, b"y", f"{R}/b", expect=pinned)
    if ground.kind == "gcs":
        put(local_store, b"x", K)
        with local_store.open(K) as foreign, pytest.raises(LakeError, match="another store"):
            put(ground.store, b"y", K, expect=foreign)
    assert ground.names() == {K}


def test_delete(ground: Ground) -> None:
    ground.write(K, b"x")
    ground.write(f"{K}2", b"y")
    ground.store.delete(K)
    assert ground.names() == {f"{K}2"}
    ground.store.delete(K)
    ground.store.delete(f"{R}/none/at/all")
    ground.store.delete(f"{R}/by_date")  # a folder, no object
    assert ground.names() == {f"{K}2"}


def test_a_pinned_object_stays_what_it_was(ground: Ground) -> None:
    old = random.Random(2).randbytes(700_000)
    for change in (lambda: put(ground.again(), b"new" * 300_000, K), lambda: ground.again().delete(K)):
        put(ground.store, old, K)
        with ground.store.open(K) as pinned:
            assert bytes(pinned.file.read_at(1000, 0)) == old[:1000]
            change()
            try:
                assert bytes(pinned.file.read_at(700_000, 0)) == old
            except ObjectChanged:
                assert ground.kind == "gcs"  # a bucket without versioning keeps no old generation


def test_a_reader_never_sees_a_mixture(ground: Ground) -> None:
    def content(n: int) -> bytes:
        return bytes([n % 251]) * (400_000 + 1000 * n)

    stop = threading.Event()
    put(ground.store, content(0), K)

    def replace() -> None:
        other, n = ground.again(), 0
        while not stop.is_set():
            n = (n + 1) % 200
            put(other, content(n), K)
            time.sleep(0.003)

    seen = set()
    writer = threading.Thread(target=replace)
    writer.start()
    try:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            with suppress(ObjectChanged), ground.store.open(K) as pinned:
                size = pinned.info.size
                parts = [bytes(pinned.file.read_at(50_000, at)) for at in range(0, size, 50_000)]
                whole = b"".join(parts)
                n = (size - 400_000) // 1000
                assert whole == content(n)
                seen.add(n)
    finally:
        stop.set()
        writer.join()
    assert len(seen) > 1


def _increment(again: "Callable[[], ObjectStore]", times: int) -> int:
    """Adds to a number that others add to as well; tells how often somebody was faster."""
    store, lost = again(), 0
    for _ in range(times):
        while True:
            try:
                with store.open(K) as pinned:
                    time.sleep(0.001)  # so that others come in between
                    put(store, str(int(bytes(pinned.file.read())) + 1).encode(), K, expect=pinned)
                break
            except ObjectChanged:
                lost += 1
                time.sleep(random.random() * 0.01)
    return lost


def test_no_change_is_lost_among_threads(ground: Ground) -> None:
    ground.write(K, b"0")
    with ThreadPoolExecutor(6) as pool:
        lost = list(pool.map(lambda _: _increment(ground.again, 10), range(6)))
    assert ground.get(K) == b"60"
    assert sum(lost) > 0  # else they never met, and nothing was shown
    assert ground.names() == {K}


def test_no_change_is_lost_among_processes(ground: Ground) -> None:
    ground.write(K, b"0")
    # a Pool ends its processes by SIGTERM, which they ignore where whoever started the tests does
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_increment, [ground.again] * 3, [20] * 3))
    assert ground.get(K) == b"60"
    assert ground.names() == {K}


def test_only_one_of_many_makes_the_first_object(ground: Ground) -> None:
    def make(n: int) -> bool:
        try:
            put(ground.store, str(n).encode(), K, expect=None)
        except ObjectChanged:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        made = [n for n, won in enumerate(pool.map(make, range(12))) if won]
    assert [ground.get(K)] == [str(n).encode() for n in made]


def test_sweeping_takes_nothing_that_is_in_use(ground: Ground) -> None:
    put(ground.store, b"x", K)
    with ground.store.stage() as path:
        path.write_bytes(b"y")
        assert ground.store.sweep() == 0
        ground.store.put(path, [f"{R}/b"])
    assert ground.names() == {K, f"{R}/b"}


def test_the_checksum_of_what_was_published_is_known_without_reading(ground: Ground) -> None:
    with ground.store.stage() as path:
        path.write_bytes(b"123456789")
        ground.store.put(path, [K, f"{R}/two"], crc32c=0xE3069283)
    for info in ground.store.list(f"{R}/"):
        assert ground.store.known_crc32c(info) == 0xE3069283
    # what others have put there since is another object
    ground.write(K, b"987654321")
    (info,) = ground.store.list(K)
    assert ground.store.known_crc32c(info) in {None, google_crc32c.value(b"987654321")}
    assert ground.store.crc32c(info) == google_crc32c.value(b"987654321")
    assert ground.store.known_crc32c(info) == google_crc32c.value(b"987654321")


def test_keys_of_one_file_have_one_identity_and_a_newer_file_has_another(ground: Ground) -> None:
    put(ground.store, b"hello", f"{R}/one", f"{R}/two")
    one, two = ground.store.list(f"{R}/")
    assert one.identity == two.identity
    assert (one.identity is None) == (ground.kind == "gcs")
    with ground.store.open(f"{R}/one") as pinned:
        assert pinned.info.identity == one.identity
    put(ground.store, b"hello", f"{R}/one")
    (newer,) = ground.store.list(f"{R}/one")
    assert newer == one
    assert newer.identity is None or newer.identity != one.identity
