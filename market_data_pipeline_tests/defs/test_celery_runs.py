"""A run whose worker is gone is told as failed, and one whose worker is at it never: with Celery itself, in memory."""

import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import dagster as dg
import pytest
from celery.contrib.testing.worker import start_worker
from dagster._core.launcher.base import WorkerStatus
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from market_data_pipeline.defs import celery_runs
from market_data_pipeline.defs.celery_runs import AskingCeleryRunLauncher

END = threading.Event()
TASK = "until_the_end"


def until_the_end() -> None:
    END.wait(60)


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[AskingCeleryRunLauncher]:
    monkeypatch.setattr(celery_runs, "ASK_SECONDS", 0.5)
    END.clear()
    made = AskingCeleryRunLauncher(broker="memory://", backend="cache+memory://", default_queue="dagster")

    made.celery.task(name=TASK, track_started=True)(until_the_end)
    yield made
    END.set()


def run_of(launcher: AskingCeleryRunLauncher) -> dg.DagsterRun:
    """A run whose task, which ends with END, has been begun by a worker."""
    task = launcher.celery.tasks[TASK].apply_async(queue="dagster")
    run = run_with(task.id)
    until = time.monotonic() + 60
    while task.state == "PENDING":
        assert time.monotonic() < until
        time.sleep(0.05)
    return run


def run_with(task_id: str) -> dg.DagsterRun:
    return dg.DagsterRun(job_name="a", tags={DAGSTER_CELERY_TASK_ID_TAG: task_id})


def begun_by(worker: str, launcher: AskingCeleryRunLauncher) -> dg.DagsterRun:
    """A run of which a worker wrote that it began it, and nothing since."""
    task_id = uuid4().hex
    launcher.celery.backend.mark_as_started(task_id, hostname=worker, pid=1)
    return run_with(task_id)


def worker(launcher: AskingCeleryRunLauncher):
    return start_worker(launcher.celery, pool="threads", perform_ping_check=False, queues=["dagster"])


def status(launcher: AskingCeleryRunLauncher, run: dg.DagsterRun) -> WorkerStatus:
    return launcher.check_run_worker_health(run).status


def test_a_run_at_which_a_worker_is_goes_on_and_one_that_ended_has_ended(launcher: AskingCeleryRunLauncher) -> None:
    with worker(launcher):
        run = run_of(launcher)
        assert status(launcher, run) is WorkerStatus.RUNNING
        END.set()
        launcher.celery.AsyncResult(run.tags[DAGSTER_CELERY_TASK_ID_TAG]).get(timeout=60)
        assert status(launcher, run) is WorkerStatus.SUCCESS


def test_a_run_whose_worker_is_gone_has_failed(launcher: AskingCeleryRunLauncher) -> None:
    with worker(launcher):
        told = launcher.check_run_worker_health(begun_by("gone@elsewhere", launcher))
    assert told.status is WorkerStatus.FAILED
    assert "gone@elsewhere" in told.msg


def test_a_run_of_which_its_worker_knows_nothing_since_it_began_anew_has_failed(
    launcher: AskingCeleryRunLauncher,
) -> None:
    with worker(launcher) as at_work:
        assert status(launcher, begun_by(at_work.hostname, launcher)) is WorkerStatus.FAILED


def test_a_run_that_ends_while_its_worker_is_asked_has_ended(
    launcher: AskingCeleryRunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun_by("ending@elsewhere", launcher)

    def ended(*_: object) -> bool:
        launcher.celery.backend.mark_as_done(run.tags[DAGSTER_CELERY_TASK_ID_TAG], 0)
        return False

    monkeypatch.setattr(launcher, "_is_at", ended)
    assert status(launcher, run) is WorkerStatus.SUCCESS


def test_a_lost_answer_does_not_end_a_run(launcher: AskingCeleryRunLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, False, True])
    monkeypatch.setattr(launcher, "_is_at", lambda *_: next(answers))
    assert status(launcher, begun_by("slow@elsewhere", launcher)) is WorkerStatus.RUNNING
