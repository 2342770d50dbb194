import errno
import hashlib
import logging
import os
import pty
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.sources.downloads import tries
from market_data_pipeline.sources.downloads.body import Replaced
from market_data_pipeline.sources.downloads.cache import Cache
from market_data_pipeline.sources.downloads.fetch import Downloads
from market_data_pipeline.sources.downloads.http import Refused
from market_data_pipeline.sources.downloads.tries import NotFetched
from market_data_pipeline_tests.sources.conftest import QUICK
from market_data_pipeline_tests.sources.vendor_server import Fault, VendorServer

KEY = "TD.secret-key_0123456789"
SIZE = 700_000
OLD, NEW = (random.Random(seed).randbytes(SIZE) for seed in (1, 2))
ALWAYS = 1_000


def advice(status: int) -> str:
    return f"advice on {status}" if status < 500 else ""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def client(vendor, folder):
    def make(cache_bytes=10**9, key="", patience=QUICK, **more) -> Downloads:
        remote = vendor.remote(cache=folder, cache_bytes=cache_bytes, **more)
        return Downloads(remote, key, advice, patience)

    return make


@pytest.fixture(params=[10**9, 0], ids=["cache", "no cache"])
def either(client, request) -> Downloads:
    """With a cache, and without."""
    return client(request.param)


def fetch(client: Downloads, url: str) -> bytes:
    with client.stream(url) as stream:
        return stream.read()


def kept(folder: Path) -> list[str]:
    """What lies in the cache, but for the locks."""
    return sorted(path.suffix for path in folder.glob("*") if path.suffix != ".lock") if folder.exists() else []


@pytest.fixture
def waits(monkeypatch):
    """The waits between tries, which are not waited for."""
    found: list[float] = []
    monkeypatch.setattr(tries.time, "sleep", found.append)
    return found


@pytest.mark.parametrize("lengths", [True, False], ids=["length", "chunked"])
def test_a_file_comes_as_it_lies_there(vendor, either, lengths):
    vendor.lengths = lengths
    url = vendor.put("/v1/a.gz", OLD)
    assert fetch(either, url) == OLD
    with either.file(url) as whole:
        whole.seek(SIZE - 5)
        assert whole.read() == OLD[-5:]


def test_what_is_packed_by_the_vendor_is_not_unpacked_on_the_way(vendor, either):
    url = vendor.put("/v1/a.gz", OLD)
    vendor.faults.append(Fault("a.gz", status=200, headers={"Content-Encoding": "gzip"}, body=OLD))
    assert fetch(either, url) == OLD
    # a vendor that is told of other ways to pack might pack once more
    assert vendor.requests[0].headers["Accept-Encoding"] == "gzip"


def test_a_kept_file_is_asked_for_but_not_sent_again(vendor, client, folder):
    url = vendor.put("/v1/a.gz", OLD)
    assert [fetch(client(), url) for _ in range(3)] == [OLD] * 3
    assert [(request.status, request.sent) for request in vendor.requests] == [(200, SIZE), (304, 0), (304, 0)]
    assert kept(folder) == [".body", ".json"]


@pytest.mark.parametrize("marks", [("ETag", "Last-Modified"), ("ETag",), ("Last-Modified",), ()], ids=str)
@pytest.mark.parametrize("conditions", [True, False], ids=["conditions", "no conditions"])
def test_a_file_that_changed_at_the_vendor_is_noticed(vendor, client, folder, marks, conditions):
    vendor.marks, vendor.conditions = marks, conditions
    url = vendor.put("/v1/a.gz", OLD)
    downloads = client()
    assert [fetch(downloads, url), fetch(downloads, url)] == [OLD, OLD]
    vendor.put("/v1/a.gz", NEW)
    assert fetch(downloads, url) == NEW
    assert kept(folder) == [".body", ".json"]


def test_a_kept_file_without_conditions_is_not_read_again(vendor, client):
    vendor.conditions = False
    url = vendor.put("/v1/a.gz", os.urandom(30_000_000))
    downloads = client()
    first = fetch(downloads, url)
    vendor.faults.append(Fault("a.gz", cut=29_000_000))
    assert fetch(downloads, url) == first
    assert len(vendor.requests) == 2


@pytest.mark.parametrize("lengths", [True, False], ids=["length", "chunked"])
def test_a_connection_cut_midway_is_taken_up_at_the_same_byte(vendor, either, lengths):
    vendor.lengths = lengths
    url = vendor.put("/v1/a.gz", OLD)
    vendor.faults.append(Fault("a.gz", cut=400_000))
    assert fetch(either, url) == OLD
    first, second = vendor.requests
    assert (first.status, second.status) == (200, 206)
    assert second.headers["Range"] == f"bytes={first.sent}-"
    assert second.headers["If-Range"] == vendor.files["/v1/a.gz"].etag


def test_a_line_that_keeps_breaking_gets_there_as_long_as_it_gets_further(vendor, either):
    url = vendor.put("/v1/a.gz", OLD)
    vendor.faults.append(Fault("a.gz", times=ALWAYS, cut=20_000))
    assert fetch(either, url) == OLD
    assert len(vendor.requests) == SIZE // 20_000


@pytest.mark.parametrize("marks", [("ETag",), ("Last-Modified",), ()], ids=str)
def test_a_vendor_that_gives_no_parts_gives_all_again(vendor, either, marks):
    vendor.ranges, vendor.marks = False, marks
    url = vendor.put("/v1/a.gz", OLD)
    vendor.faults.append(Fault("a.gz", cut=400_000))
    assert fetch(either, url) == OLD
    assert [request.status for request in vendor.requests] == [200, 200]


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_connection_that_is_always_cut_is_an_error_and_leaves_nothing(vendor, either, folder, ranges, waits):
    vendor.ranges = ranges
    url = vendor.put("/v1/a.gz", OLD)
    # the first gives some bytes, the others none: nothing gets further
    vendor.faults += [Fault("a.gz", cut=300_000), Fault("a.gz", times=ALWAYS, cut=0)]
    with pytest.raises(NotFetched, match=r"/v1/a\.gz: .*given up after 4 tries in a row"):
        fetch(either, url)
    assert len(vendor.requests) == 4
    assert kept(folder) == []
    vendor.faults.clear()
    assert fetch(either, url) == OLD


@given(
    st.integers(1, 60_000),
    st.lists(st.one_of(st.integers(0, 60_000), st.sampled_from([429, 503])), max_size=3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
@hypothesis.settings(max_examples=40)
def test_whatever_breaks_where_the_bytes_are_the_same(size, faults, ranges, lengths, cached):
    content = random.Random(size).randbytes(size)
    with VendorServer() as vendor, TemporaryDirectory() as folder:
        vendor.ranges, vendor.lengths = ranges, lengths
        url = vendor.put("/v1/a.gz", content)
        vendor.faults += [Fault("a.gz", cut=at) if at not in (429, 503) else Fault("a.gz", status=at) for at in faults]
        remote = vendor.remote(cache=Path(folder), cache_bytes=cached * 10**9)
        assert fetch(Downloads(remote, "", advice, QUICK), url) == content


def test_a_vendor_that_falls_silent_is_asked_again(vendor, client):
    url = vendor.put("/v1/a.gz", OLD)
    silent = threading.Event()
    vendor.faults.append(Fault("a.gz", stall=(100_000, silent)))
    downloads = client(patience=replace(QUICK, silence=0.3))
    assert fetch(downloads, url) == OLD
    silent.set()
    assert [request.status for request in vendor.requests] == [200, 206]


def test_an_empty_answer_is_no_file(vendor, either, folder):
    with pytest.raises(SourceError, match=r"a\.gz: the vendor gave 0 bytes"):
        fetch(either, vendor.put("/v1/a.gz", b""))
    assert kept(folder) == []


@pytest.mark.parametrize("marks", [("ETag",), ("Last-Modified",), ()], ids=str)
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_file_replaced_while_it_is_resumed(vendor, client, folder, marks, ranges):
    vendor.marks, vendor.ranges = marks, ranges
    url = vendor.put("/v1/a.gz", OLD)

    def broken() -> None:
        vendor.put("/v1/a.gz", OLD)
        vendor.faults[:] = [Fault("a.gz", cut=400_000, after=lambda: vendor.put("/v1/a.gz", NEW))]

    broken()
    assert fetch(client(), url) == NEW
    broken()
    with pytest.raises(Replaced, match=r"a\.gz: another file came to lie there while it was read; run it again"):
        fetch(client(0), url)
    assert kept(folder) == [".body", ".json"]


def test_a_file_that_got_shorter_while_it_is_resumed_is_another_one(vendor, client):
    url = vendor.put("/v1/a.gz", OLD)
    vendor.marks = ("Last-Modified",)
    vendor.faults.append(Fault("a.gz", cut=400_000))
    vendor.faults.append(Fault("a.gz", status=416))
    assert fetch(client(), url) == OLD
    vendor.faults += [Fault("a.gz", cut=400_000), Fault("a.gz", status=416)]
    with pytest.raises(Replaced):
        fetch(client(0), url)


@pytest.mark.parametrize("part", ["bytes 3-699999/700000", "bytes 400000-699999/700001", "nonsense"])
def test_another_part_than_the_one_asked_for_is_not_taken(vendor, client, part):
    url = vendor.put("/v1/a.gz", OLD)
    vendor.faults.append(Fault("a.gz", cut=400_000))
    vendor.faults.append(Fault("a.gz", status=206, headers={"Content-Range": part}, body=OLD[3:]))
    with pytest.raises(Replaced):
        fetch(client(0), url)


def test_a_file_that_never_stays_the_same_is_an_error(vendor, client, folder):
    url = vendor.put("/v1/a.gz", OLD)
    content = iter([NEW, OLD] * 5)
    vendor.faults.append(Fault("a.gz", ALWAYS, cut=99, after=lambda: vendor.put("/v1/a.gz", next(content))))
    with pytest.raises(Replaced):
        fetch(client(), url)
    assert kept(folder) == []


def test_a_busy_vendor_is_waited_for_as_it_asks(vendor, either, waits):
    url = vendor.put("/v1/a.gz", OLD)
    vendor.faults.append(Fault("a.gz", times=2, status=429, headers={"Retry-After": "7"}))
    assert fetch(either, url) == OLD
    assert [round(wait) for wait in waits] == [7, 7]


def test_a_vendor_that_wants_hours_is_not_waited_for(vendor, either, waits):
    vendor.faults.append(Fault("a.gz", status=429, headers={"Retry-After": "86400"}, body=b"quota exceeded"))
    with pytest.raises(NotFetched, match=r"HTTP 429 quota exceeded; .* \(Retry-After: 86400;"):
        fetch(either, vendor.put("/v1/a.gz", OLD))
    assert waits == []
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("header", [{}, {"Retry-After": "soon"}], ids=["nothing asked", "nonsense asked"])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_transient_answers_are_tried_again_with_growing_waits(vendor, either, waits, status, header):
    url = vendor.put("/v1/a.gz", OLD)
    vendor.faults.append(Fault("a.gz", times=3, status=status, headers=header))
    assert fetch(either, url) == OLD
    assert len(waits) == 3
    assert 0 < waits[0] < waits[1] < waits[2] <= QUICK.longest


def test_a_vendor_that_stays_down_is_given_up(vendor, either, waits):
    vendor.faults.append(Fault("a.gz", times=ALWAYS, status=503, body=b"<html>down</html>"))
    with pytest.raises(NotFetched, match=r"HTTP 503 Service Unavailable; given up after 4 tries in a row"):
        fetch(either, vendor.put("/v1/a.gz", OLD))
    assert len(vendor.requests) == 4


def test_a_vendor_that_is_not_there_is_named(client, waits):
    with pytest.raises(NotFetched, match=r"http://127\.0\.0\.1:9/a: the connection broke \(Connection refused\)"):
        fetch(client(), "http://127.0.0.1:9/a")
    assert len(waits) == QUICK.tries


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_refusals_are_final_and_say_why_and_what_to_do(vendor, either, waits, status):
    vendor.faults.append(Fault("a.gz", times=ALWAYS, status=status, body=b'{"code": 1, "message": "because\\n of it"}'))
    with pytest.raises(Refused) as caught:
        fetch(either, vendor.put("/v1/a.gz", OLD))
    assert caught.value.status == status
    more = f"; {advice(status)}" if status < 500 else ""
    assert str(caught.value) == f"{vendor.url}/v1/a.gz: HTTP {status} because of it{more}"
    assert len(vendor.requests) == 1


def test_a_wrong_checksum_is_fetched_again_and_then_an_error(vendor, client, folder):
    url = vendor.put("/data/a.zip", OLD)
    right, wrong = hashlib.sha256(OLD).hexdigest(), "0" * 64
    answers = iter([wrong, right])
    with client().file(url, lambda: next(answers)) as whole:
        assert whole.read() == OLD
    assert len(vendor.asked("a.zip")) == 2
    for downloads in (client(), client(0)):
        with pytest.raises(NotFetched, match=rf"its sha256 is {right}, the vendor's checksum file says {wrong}"):
            downloads.file(url, lambda: wrong).__enter__()
    # the file that was right is still kept, and still not asked for again
    asked = len(vendor.requests)
    with client().file(url, lambda: right) as whole:
        assert whole.read() == OLD
    assert len(vendor.requests) == asked
    assert kept(folder) == [".body", ".json"]


def test_a_new_checksum_fetches_anew(vendor, client):
    url = vendor.put("/data/a.zip", OLD)
    for content in (OLD, NEW):
        vendor.put("/data/a.zip", content)
        with client().file(url, lambda content=content: hashlib.sha256(content).hexdigest()) as whole:
            assert whole.read() == content


def test_a_file_that_rots_in_the_cache_is_fetched_anew_after_one_failure(vendor, client, folder):
    url = vendor.put("/v1/a.gz", OLD)
    downloads = client()
    fetch(downloads, url)
    (body,) = folder.glob("*.body")
    body.write_bytes(NEW)

    def rows():
        with downloads.stream(url) as stream:
            if stream.read() != OLD:
                raise SourceError("torn")
            yield 1

    with pytest.raises(SourceError, match="torn"), downloads.trusting(url):
        list(rows())
    with downloads.trusting(url):
        assert list(rows()) == [1]


def test_a_failing_network_does_not_cost_the_kept_file(vendor, client, folder, waits):
    url = vendor.put("/v1/a.gz", OLD)
    downloads = client()
    fetch(downloads, url)
    vendor.faults.append(Fault("a.gz", times=ALWAYS, status=503))

    with pytest.raises(NotFetched), downloads.trusting(url):
        fetch(downloads, url)
    assert kept(folder) == [".body", ".json"]


def test_a_body_of_the_wrong_size_does_not_count(vendor, client, folder):
    url = vendor.put("/v1/a.gz", OLD)
    fetch(client(), url)
    (body,) = folder.glob("*.body")
    body.write_bytes(OLD[:-1])
    assert fetch(client(), url) == OLD


def test_the_cache_is_bounded_and_what_was_used_longest_ago_goes_first(vendor, client, folder):
    downloads = client(3 * SIZE)
    urls = [vendor.put(f"/v1/{name}.gz", OLD) for name in "abc"]
    for second, url in enumerate(urls):
        fetch(downloads, url)
        newest = max(folder.glob("*.body"), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (second, second))
    fetch(downloads, urls[0])
    fetch(downloads, vendor.put("/v1/d.gz", NEW))
    vendor.requests.clear()
    for url in (urls[0], urls[2], f"{vendor.url}/v1/d.gz"):
        fetch(downloads, url)
    assert {request.status for request in vendor.requests} == {304}
    fetch(downloads, urls[1])
    assert vendor.requests[-1].status == 200
    assert sum(path.stat().st_size for path in folder.glob("*.body")) <= 3 * SIZE


def test_a_file_larger_than_the_cache_is_still_read(vendor, client, folder):
    downloads = client(SIZE - 1)
    url = vendor.put("/v1/a.gz", OLD)
    assert fetch(downloads, url) == OLD
    assert kept(folder) == []


def test_a_file_may_go_from_the_cache_while_it_is_read(vendor, client, folder):
    downloads = client()
    with downloads.stream(vendor.put("/v1/a.gz", OLD)) as stream:
        beginning = stream.read(10)
        for path in folder.glob("*"):
            path.unlink()
        assert beginning + stream.read() == OLD


def test_a_cache_that_cannot_be_used_says_so(vendor, client, folder):
    folder.write_bytes(b"")
    with pytest.raises(NotFetched, match=r"MARKET_DATA_CACHE=.*/cache: cannot be used: .*MARKET_DATA_CACHE_GB=0"):
        fetch(client(), vendor.put("/v1/a.gz", OLD))


def test_a_full_disk_is_told_as_such(vendor, client, folder, monkeypatch):
    url = vendor.put("/v1/a.gz", OLD)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("shutil.copyfileobj", full)
        with pytest.raises(
            NotFetched, match=r"MARKET_DATA_CACHE=.*: cannot be used: No space left on device; make room"
        ):
            fetch(client(), url)
        with pytest.raises(NotFetched, match=r"a\.gz: cannot be written to .*: No space left .*set TMPDIR"):
            client(0).file(url).__enter__()
    assert kept(folder) == []
    assert fetch(client(), url) == OLD


def test_without_a_cache_nothing_is_written(vendor, client, folder, monkeypatch):
    monkeypatch.setattr("tempfile.TemporaryFile", None)
    assert fetch(client(0), vendor.put("/v1/a.gz", OLD)) == OLD
    assert not folder.exists()


def test_threads_that_want_the_same_file_fetch_it_once(vendor, client):
    downloads = client()
    url = vendor.put("/v1/a.gz", OLD)
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda _: fetch(downloads, url), range(6))) == [OLD] * 6
    assert sorted(request.status for request in vendor.requests) == [200] + [304] * 5


def fetch_whole(client: Downloads, url: str) -> bytes:
    with client.file(url) as whole:
        return whole.read()


@pytest.mark.parametrize("how", [fetch, fetch_whole])
@pytest.mark.parametrize("cache_bytes", [10**9, 0])
def test_no_more_are_fetched_at_once_than_allowed(vendor, client, cache_bytes, how):
    downloads = client(cache_bytes, downloads=2)
    go = threading.Event()
    urls = [vendor.put(f"/v1/{n}.gz", OLD) for n in range(6)]
    vendor.faults.append(Fault(".gz", times=2, stall=(10, go)))
    with ThreadPoolExecutor(6) as pool:
        results = [pool.submit(how, downloads, url) for url in urls]
        while len(vendor.requests) < 2:
            time.sleep(0.01)
        go.set()
        assert [result.result() for result in results] == [OLD] * 6
    assert vendor.busiest == 2


def test_one_slot_is_enough_for_a_file_with_a_checksum(vendor, client):
    url = vendor.put("/data/a.zip", OLD)
    checksum = vendor.put("/data/a.zip.CHECKSUM", hashlib.sha256(OLD).hexdigest().encode())
    for cache_bytes in (10**9, 0):
        downloads = client(cache_bytes, downloads=1)
        with downloads.file(url, lambda downloads=downloads: downloads.content(checksum).decode()) as whole:
            assert whole.read() == OLD


def test_a_small_answer_is_whole_or_an_error(vendor, client, waits):
    downloads = client()
    url = vendor.put_json("/api/x", {"a": [1] * 100_000})
    vendor.faults.append(Fault("/api/x", cut=70_000))
    assert downloads.json(url) == {"a": [1] * 100_000}
    vendor.faults.append(Fault("/api/x", times=ALWAYS, cut=70_000))
    with pytest.raises(NotFetched, match="given up"):
        downloads.json(url)
    with pytest.raises(SourceError, match="is no JSON"):
        downloads.json(vendor.put("/api/y", b"<html>"))


KILLED = """
import sys, os
from pathlib import Path
from tempfile import TemporaryDirectory
from market_data_pipeline.sources.downloads.fetch import Downloads
from market_data_pipeline.sources.downloads.remote import Remote
remote = Remote(cache=Path(sys.argv[1]), cache_bytes=10**9)
with Downloads(remote, "", str).stream(sys.argv[2]) as stream:
    sys.stdout.buffer.write(stream.read())
"""


def run(folder: Path, url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", KILLED, folder, url], stdout=subprocess.PIPE)


def test_a_process_killed_midway_leaves_the_cache_whole(vendor, folder):
    url = vendor.put("/v1/a.gz", OLD)
    stalled = threading.Event()
    vendor.faults.append(Fault("a.gz", stall=(300_000, stalled)))
    process = run(folder, url)
    while not any(path.stat().st_size for path in folder.glob("*.part")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stalled.set()
    assert kept(folder) == [".part"]
    again = run(folder, url)
    assert again.communicate()[0] == OLD
    assert kept(folder) == [".body", ".json"]


def test_processes_that_want_the_same_file_fetch_it_once(vendor, folder):
    url = vendor.put("/v1/a.gz", OLD)
    processes = [run(folder, url) for _ in range(3)]
    assert [process.communicate()[0] for process in processes] == [OLD] * 3
    assert sorted(request.status for request in vendor.requests) == [200, 304, 304]


def test_strays_are_swept_but_not_what_another_process_writes(vendor, client, folder):
    url = vendor.put("/v1/a.gz", OLD)
    fetch(client(), url)
    stray = [folder / f"{key * 32}.{'0' * 32}{suffix}" for key in "ab" for suffix in (".part", ".body")]
    for path in stray:
        path.write_bytes(b"half")
    other = Cache(folder, 10**9)
    with other._lock("b" * 32):
        fetch(client(), url)
        assert [path.exists() for path in stray] == [False, False, True, True]
    fetch(client(), url)
    assert kept(folder) == [".body", ".json"]


def test_the_key_goes_to_the_vendor_and_nowhere_else(vendor, client, caplog, waits):
    caplog.set_level(logging.DEBUG)
    vendor.key = KEY
    downloads = client(key=KEY)
    assert fetch(downloads, vendor.put("/v1/08/a.gz", OLD)) == OLD
    assert vendor.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    vendor.key = "another"
    with pytest.raises(Refused) as caught:
        fetch(downloads, f"{vendor.url}/v1/08/a.gz")
    assert "Invalid API key provided: Bearer ***" in str(caught.value)
    vendor.faults.append(Fault("a.gz", times=ALWAYS, cut=1))
    with pytest.raises(NotFetched):
        fetch(client(0, key=KEY), f"{vendor.url}/v1/08/a.gz")
    seen = [caplog.text, repr(caught.value), repr(downloads), repr(downloads._http), repr(downloads._http.__dict__)]
    error = caught.value
    while error is not None:
        seen += [str(error), repr(error.__dict__)]
        error = error.__cause__ or error.__context__
    assert [text for text in seen if KEY in text.replace("'_key': '" + KEY, "")] == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_does_not_follow_a_redirect_to_another_host(vendor, client, status, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("default login somebody password something\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    elsewhere = vendor.url.replace("127.0.0.1", "localhost")
    vendor.put("/moved/a.gz", OLD)
    vendor.faults.append(Fault("/v1/a.gz", status=status, headers={"Location": f"{elsewhere}/moved/a.gz"}))
    assert fetch(client(key=KEY), f"{vendor.url}/v1/a.gz") == OLD
    first, second = vendor.requests
    assert first.headers["Authorization"] == f"Bearer {KEY}"
    assert second.headers["Host"].startswith("localhost")
    assert KEY not in str(second.headers)


def test_without_a_key_nothing_is_sent_in_its_place(vendor, client, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("default login somebody password something\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    fetch(client(), vendor.put("/v1/a.gz", OLD))
    assert "Authorization" not in vendor.requests[0].headers


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(vendor, client, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    url = vendor.put("/v1/a.gz", OLD)
    fetch(client(0), url)
    assert f"{url}: fetched, 0.7 MB in" in caplog.text

    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", terminal)
        downloads = client(0)
    # stderr leads elsewhere by now; the bar stays where the user is
    fetch(downloads, url)
    shown = os.read(ours, 100_000).decode()
    assert "a.gz" in shown
    assert "700.0 kB" in shown
