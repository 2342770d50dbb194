"""What is particular to the local disk: links, temporary files, locks, and disks that refuse."""

import errno
import multiprocessing
import os
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from market_data_pipeline.lake.stores import disk, local
from market_data_pipeline.lake.stores.contract import ObjectInfo
from market_data_pipeline.lake.stores.local import LocalStore
from market_data_pipeline.model.errors import LakeError, ObjectChanged, ObjectNotFound

R = "market-data-meta"
K = f"{R}/by_date/one.bin"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "lake")


def put(store: LocalStore, data: bytes, *keys: str) -> None:
    with store.stage() as path:
        path.write_bytes(data)
        store.put(path, keys)


def temps(store: LocalStore) -> list[str]:
    folder = store.root / ".lake" / "tmp"
    return sorted(os.listdir(folder)) if folder.exists() else []  # noqa: PTH208


def test_keys_are_hard_links_to_one_read_only_file(store: LocalStore) -> None:
    keys = [f"{R}/a/x", f"{R}/b/x", f"{R}/c/x"]
    put(store, b"data", *keys)
    found = [(store.root / key).stat() for key in keys]
    assert len({x.st_ino for x in found}) == 1
    assert found[0].st_nlink == 3  # no temporary name is left
    assert stat.S_IMODE(found[0].st_mode) == 0o444
    assert temps(store) == []


def test_putting_a_file_onto_itself_leaves_no_temporary_name(store: LocalStore) -> None:
    with store.stage() as path:
        path.write_bytes(b"data")
        store.put(path, [K, K])
        store.put(path, [K])
        assert temps(store) == [path.name]
    assert (store.root / K).stat().st_nlink == 1


def test_replacing_one_link_leaves_the_others(store: LocalStore) -> None:
    put(store, b"old", K, f"{R}/b")
    put(store, b"new", K)
    assert (store.root / K).read_bytes() == b"new"
    assert (store.root / R / "b").read_bytes() == b"old"


@pytest.mark.parametrize("reason", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP])
def test_where_links_are_refused_the_file_is_copied(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    monkeypatch.setattr(os, "link", _failing(reason))
    put(store, b"data", K, f"{R}/b")
    assert (store.root / K).read_bytes() == (store.root / R / "b").read_bytes() == b"data"
    assert (store.root / K).stat().st_ino != (store.root / R / "b").stat().st_ino
    assert stat.S_IMODE((store.root / K).stat().st_mode) == 0o444
    assert temps(store) == []
    assert store.bytes_written == 12  # staged once, copied twice


def test_the_checksum_of_linked_files_is_read_once(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    whole = local.crc32c_of
    monkeypatch.setattr(local, "crc32c_of", lambda file: read.append(file) or whole(file))
    put(store, b"data", K, f"{R}/b")
    first = store.crc32c(ObjectInfo(K, 4))
    with store.open(K), (store.root / R / "c").open("wb"):
        os.link(store.root / K, store.root / R / "d")
    assert [store.crc32c(ObjectInfo(f"{R}/{name}", 4)) for name in "bd"] == [first, first]
    assert len(read) == 1
    put(store, b"atad", K)
    assert store.crc32c(ObjectInfo(K, 4)) != first
    assert len(read) == 2


def test_known_checksums_are_bounded(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_REMEMBERED", 2)
    for n in range(5):
        put(store, bytes([n]), f"{R}/{n}")
        store.crc32c(ObjectInfo(f"{R}/{n}", 1))
    assert len(store._checksums) == 2


def test_the_roots_stay_when_folders_become_empty(store: LocalStore) -> None:
    put(store, b"x", f"{R}/a/b/c/x", f"{R}/a/y")
    store.delete(f"{R}/a/b/c/x")
    assert not (store.root / R / "a" / "b").exists()
    assert (store.root / R / "a" / "y").exists()
    store.delete(f"{R}/a/y")
    assert sorted(os.listdir(store.root)) == [".lake", R]  # noqa: PTH208
    assert list((store.root / R).iterdir()) == []


def test_puts_survive_deletes_that_remove_their_folder(store: LocalStore) -> None:
    stop = threading.Event()

    def tidy() -> None:
        while not stop.is_set():
            store.delete(f"{R}/a/b/c/other")
            put(store, b"", f"{R}/a/b/c/other")

    threads = [threading.Thread(target=tidy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(60):
            put(store, b"x", f"{R}/a/b/c/mine")
            store.delete(f"{R}/a/b/c/mine")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert temps(store) == []


def test_a_put_makes_its_folder_again(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, removed = local.make_folders, []

    def make_and_lose(folder: Path) -> None:
        whole(folder)
        if len(removed) < 3:
            folder.rmdir()
            removed.append(folder)

    monkeypatch.setattr(local, "make_folders", make_and_lose)
    put(store, b"x", K)
    assert (store.root / K).read_bytes() == b"x"
    assert len(removed) == 3


def test_reading_makes_nothing(store: LocalStore) -> None:
    assert list(store.list(f"{R}/")) == []
    assert store.sweep() == 0
    store.delete(K)
    for call in (lambda: store.open(K), lambda: store.crc32c(ObjectInfo(K, 1))):
        with pytest.raises(ObjectNotFound):
            call()
    assert not store.root.exists()


def test_symbolic_links_and_pipes_are_no_objects(store: LocalStore, tmp_path: Path) -> None:
    put(store, b"x", K)
    (tmp_path / "outside").write_bytes(b"secret")
    (store.root / R / "link").symlink_to(tmp_path / "outside")
    (store.root / R / "around").symlink_to(store.root / R)
    os.mkfifo(store.root / R / "pipe")
    assert [info.key for info in store.list(f"{R}/")] == [K]
    for name in ("link", "pipe"):
        assert list(store.list(f"{R}/{name}")) == []
        with pytest.raises(ObjectNotFound):
            store.open(f"{R}/{name}")


def test_a_folder_that_is_a_link_is_refused_on_every_way_to_what_lies_in_it(store: LocalStore, tmp_path: Path) -> None:
    put(store, b"data", K)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "one").write_bytes(b"theirs")
    (store.root / R / "by_date" / "day").symlink_to(tmp_path / "outside")
    inner = f"{R}/by_date/day/one"
    for ask in (
        lambda: list(store.list(f"{R}/by_date/day/")),
        lambda: store.open(inner),
        lambda: store.delete(inner),
        lambda: put(store, b"ours", inner),
        lambda: put(store, b"ours", f"{R}/by_date/day/deeper/one"),
    ):
        with pytest.raises(LakeError, match=r"by_date/day: is a symbolic link, which is not followed"):
            ask()
    assert [info.key for info in store.list(f"{R}/")] == [K]
    assert (tmp_path / "outside" / "one").read_bytes() == b"theirs"


def test_a_root_may_be_a_link_to_another_disk(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    store.root.mkdir()
    (store.root / R).symlink_to(tmp_path / "disk")
    put(store, b"data", K)
    assert [info.key for info in store.list(f"{R}/")] == [K]
    assert (tmp_path / "disk" / "by_date" / "one.bin").read_bytes() == b"data"


def test_a_link_in_the_place_of_an_object_is_replaced(store: LocalStore, tmp_path: Path) -> None:
    put(store, b"data", K)
    (store.root / K).unlink()
    (tmp_path / "outside").write_bytes(b"theirs")
    (store.root / K).symlink_to(tmp_path / "outside")
    with store.stage() as path:
        path.write_bytes(b"ours")
        store.put(path, [K], expect=None)
    assert (store.root / K).read_bytes() == b"ours"
    assert (tmp_path / "outside").read_bytes() == b"theirs"


def test_folders_may_vanish_while_they_are_listed(store: LocalStore) -> None:
    put(store, b"x", f"{R}/a/1", f"{R}/a/2", f"{R}/b/1", f"{R}/c")
    listing = store.list(f"{R}/")
    assert next(listing).key == f"{R}/a/1"
    store.delete(f"{R}/a/2")
    store.delete(f"{R}/b/1")
    assert [info.key for info in listing] == [f"{R}/c"]


def test_a_pinned_object_can_only_be_expected_while_it_is_open(store: LocalStore) -> None:
    put(store, b"x", K)
    with store.open(K) as pinned:
        pass
    with store.stage() as path, pytest.raises(LakeError, match="keep it open"):
        store.put(path, [K], expect=pinned)


def test_an_unconditional_change_waits_for_a_conditional_one(store: LocalStore) -> None:
    """Between comparing and renaming nobody else may change the object."""
    put(store, b"x", K)
    done = []
    with store._locked(K):
        threads = [threading.Thread(target=lambda: done.append(put(store, b"y", K)))]
        threads.append(threading.Thread(target=lambda: done.append(store.delete(K))))
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        assert done == []
        assert (store.root / K).read_bytes() == b"x"
    for thread in threads:
        thread.join(5)
    assert len(done) == 2


def _killed(root: Path) -> None:
    store = LocalStore(root)
    with store.stage() as path:
        path.write_bytes(b"half")
        os.link(path, root / ".lake" / "tmp" / "second")
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_run_left_is_swept_once_it_is_old(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_killed, args=(store.root,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(temps(store)) == 2
    assert store.sweep() == 0  # too young
    monkeypatch.setattr(disk, "ORPHAN_SECONDS", 0.0)
    with store.stage() as held:
        held.write_bytes(b"in use")
        assert store.sweep() == 2
        assert temps(store) == [held.name]
        store.put(held, [K])
    assert (store.root / K).read_bytes() == b"in use"


def _failing(reason: int) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(reason, os.strerror(reason))

    return fail


@pytest.mark.parametrize("call", ["fsync", "link", "replace"])
@pytest.mark.parametrize(("reason", "advice"), [(errno.ENOSPC, "free some space"), (errno.EACCES, "give this user")])
def test_a_disk_that_refuses_is_explained_and_nothing_half_written_stays(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, call: str, reason: int, advice: str
) -> None:
    put(store, b"old", K)
    with store.stage() as path:
        path.write_bytes(b"new")
        with monkeypatch.context() as patch:
            patch.setattr(os, call, _failing(reason))
            if call == "replace":
                patch.setattr(Path, call, _failing(reason))
            with pytest.raises(LakeError, match=advice) as caught:
                store.put(path, [K])
        assert os.strerror(reason) in str(caught.value)
        assert str(path if call == "fsync" else store.root / K) in str(caught.value)
        assert isinstance(caught.value.__cause__, OSError)
        assert temps(store) == [path.name]
    assert (store.root / K).read_bytes() == b"old"
    assert temps(store) == []
    assert store.bytes_written == 3


def test_a_copy_that_fills_the_disk_is_removed(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", _failing(errno.EXDEV))
    monkeypatch.setattr(shutil, "copyfileobj", _failing(errno.ENOSPC))
    with store.stage() as path:
        with pytest.raises(LakeError, match="No space left"):
            store.put(path, [K])
        assert temps(store) == [path.name]
    assert temps(store) == []
    assert not (store.root / K).exists()


def test_a_disk_that_fills_while_staging_is_explained(store: LocalStore) -> None:
    """/dev/full answers as a full disk does."""
    with pytest.raises(LakeError, match="free some space"), store.stage(), Path("/dev/full").open("wb") as full:
        full.write(b"x")
    assert temps(store) == []


def test_other_errors_while_staging_stay_as_they_are(store: LocalStore) -> None:
    with pytest.raises(FileNotFoundError), store.stage():
        Path("/nowhere/at/all").read_bytes()
    assert temps(store) == []


def test_a_file_where_a_folder_is_needed_and_the_other_way_round(store: LocalStore) -> None:
    put(store, b"x", K)
    with pytest.raises(LakeError, match=rf"{K}/below cannot be written.*a file lies where a folder is needed"):
        put(store, b"y", f"{K}/below")
    with pytest.raises(LakeError, match=r"by_date cannot be written.*a folder lies where the object should"):
        put(store, b"y", f"{R}/by_date")
    assert temps(store) == []


def _as_nobody(root: Path, answers: Any) -> None:
    if os.getuid() == 0:
        os.setuid(65534)  # the rights of files do not bind root
    store = LocalStore(root)
    with store.open(K) as pinned:
        read = bytes(pinned.file.read())
    keys, messages = [info.key for info in store.list(f"{R}/")], []
    for change in (lambda: put(store, b"y", K), lambda: store.delete(K)):
        try:
            change()
        except LakeError as error:
            messages.append(str(error))
    answers.send((read, store.crc32c(ObjectInfo(K, 1)), keys, messages))


@contextmanager
def _shared_folder() -> Iterator[Path]:
    """A folder that another user may enter, as pytest's own may not."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(folder)


def test_a_read_only_lake_is_read_and_writing_to_it_is_refused() -> None:
    with _shared_folder() as folder:
        root = folder / "lake"
        put(LocalStore(root), b"x", K)
        shutil.rmtree(root / ".lake")
        before = sorted(root.rglob("*"))
        for path in (root, *(path for path in before if path.is_dir())):
            path.chmod(0o555)
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=_as_nobody, args=(root, there))
        process.start()
        read, checksum, keys, messages = here.recv() if here.poll(20) else pytest.fail("no answer")
        process.join()
        assert (read, keys) == (b"x", [K])
        assert checksum == LocalStore(root).crc32c(ObjectInfo(K, 1))
        assert len(messages) == 2
        assert all("Permission denied; give this user the right" in message for message in messages)
        assert str(root) in messages[0]
        assert sorted(root.rglob("*")) == before


def test_a_folder_that_may_not_be_listed_is_an_error_not_an_empty_one(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, b"x", K)
    monkeypatch.setattr(os, "scandir", _failing(errno.EACCES))
    with pytest.raises(LakeError, match="cannot be listed: Permission denied"):
        list(store.list(f"{R}/"))


def test_a_failed_expectation_leaves_no_temporary_name(store: LocalStore) -> None:
    put(store, b"x", K)
    with store.stage() as path:
        with suppress(ObjectChanged):
            store.put(path, [K], expect=None)
        assert temps(store) == [path.name]
    assert store.bytes_written == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
def test_a_folder_without_rights_is_named(tmp_path: Path) -> None:
    root = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        root.chmod(0o755)
        store = LocalStore(root / "lake")
        put(store, b"data", K)
        (root / "lake" / R).chmod(0o600)
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            said = 0
            for ask in (lambda: store.open(K), lambda: list(store.list(f"{R}/by_date/"))):
                try:
                    ask()
                except LakeError as error:
                    said += "cannot be reached" in str(error)
                except BaseException:
                    pass
            os._exit(said)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    finally:
        shutil.rmtree(root)
