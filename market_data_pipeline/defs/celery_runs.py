"""Runs that Celery's workers make, on machines that may go without a word; `deploy/celery/dagster.yaml` names it.

dagster-celery reads how a run's task is from Celery's store of results. Where a worker's process dies its worker writes
there that the task failed; where the whole machine is gone nobody does, and the task counts as started for ever.
"""

import time

import dagster as dg
from celery.result import AsyncResult
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG
from typing_extensions import override

ASKS = 3
"""So often a worker is asked before it counts as gone: a message may be lost, and a task just begun be unknown yet."""
ASK_SECONDS = 10.0


class AskingCeleryRunLauncher(CeleryRunLauncher):
    """Dagster's Celery launcher, which also asks the worker itself whether it is still at a run."""

    @override
    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """As dagster-celery tells it, and failed where the worker is gone or knows nothing of the run.

        Where it does not answer this takes half a minute. A worker that only seemed to be gone, cut off by the network,
        goes on beside the one that takes its run over: both write the same files.
        """
        told = super().check_run_worker_health(run)
        if told.status is not WorkerStatus.RUNNING:
            return told
        task = self.celery.AsyncResult(run.tags[DAGSTER_CELERY_TASK_ID_TAG])
        worker = self._worker(task)
        if worker is None:
            return told
        for _ in range(ASKS):
            begun = time.monotonic()
            if self._is_at(worker, task.id):
                return told
            time.sleep(max(0.0, begun + ASK_SECONDS - time.monotonic()))
        # it may have ended between the two questions
        told = super().check_run_worker_health(run)
        if told.status is not WorkerStatus.RUNNING:
            return told
        return CheckRunHealthResult(WorkerStatus.FAILED, f"The worker {worker} is gone, or no longer at this run.")

    @staticmethod
    def _worker(task: AsyncResult) -> str | None:
        """The worker that wrote that it began a task; None where it has ended meanwhile."""
        told = task.info
        return told.get("hostname") if isinstance(told, dict) else None

    def _is_at(self, worker: str, task_id: str) -> bool:
        asked = self.celery.control.inspect(destination=[worker], timeout=ASK_SECONDS, limit=1)
        return any(task["id"] == task_id for task in (asked.active() or {}).get(worker, ()))
