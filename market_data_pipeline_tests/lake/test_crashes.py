"""A crash at every call and every request in turn, a full disk, a read-only folder, and processes that are killed.

Here every few of them; `benchmarks.crashes` takes all, and kills as often as it is asked to.
"""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from market_data_pipeline.lake.stores import disk
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline_tests.lake.crashes import (
    DISK_FULL,
    READ_ONLY,
    assert_before_or_after,
    assert_whole,
    at_call,
    crash_everywhere,
    killed_runs,
    version_objects,
    watching,
    write_version,
)
from market_data_pipeline_tests.store_fixtures import Ground


def test_a_crash_at_every_call_to_the_operating_system(local: Ground) -> None:
    assert crash_everywhere(local, watching(local), 11) > 100


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
def test_a_crash_at_every_request(gcs: Ground, answered: bool) -> None:
    assert crash_everywhere(gcs, watching(gcs, answered=answered), 29, 9 * answered) > 50


@pytest.mark.parametrize(("error", "said"), [(DISK_FULL, "free some space"), (READ_ONLY, "can be written to")])
def test_a_disk_that_is_full_or_read_only_from_some_call_on(
    local: Ground, error: Callable[[], OSError], said: str
) -> None:
    before, after = version_objects(local, 0), version_objects(local, 1)
    for number in range(0, 150, 25):
        write_version(local.again(), 0)
        fail, _ = at_call(number, error)
        with watching(local)(fail), pytest.raises(LakeError, match=said):
            write_version(local.again(), 1)
        assert_before_or_after(local.again(), before, after)
        write_version(local.again(), 1)
        assert_whole(local, after)


def test_processes_that_are_killed(ground: Ground) -> None:
    assert len(list(killed_runs(ground, 4, 1))) == 4


def test_the_next_write_sweeps_what_killed_runs_left(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "lake" / ".lake" / "tmp" if ground.kind == "local" else tmp_path
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    stray = folder / "market-data-staged-left"
    stray.write_bytes(b"half")
    write_version(ground.again(), 0)
    assert stray.exists()  # too young: its maker may not have locked it yet
    monkeypatch.setattr(disk, "ORPHAN_SECONDS", 0.0)
    with ground.again().stage() as held, caplog.at_level(logging.INFO):
        write_version(ground.again(), 1)
        assert held.exists()
    assert not stray.exists()
    assert "1 temporary files that killed runs had left were removed" in caplog.text
