"""Tells a webhook of runs that failed, and why: where a step raised, or a check that blocks has stopped a day."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import dagster as dg
import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from market_data_pipeline.defs.launch import days_told, why_failed

NAME = "alerts"
_SHOWN = 5
_LONGEST = 1_000
_TIMEOUT = 10.0
_TRIES = Retry(3, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None)


def alerts_sensor(webhook: str) -> dg.SensorDefinition:
    """Posts `{"text": …}`, which Slack, Mattermost and Teams' workflows take, for each run that failed.

    Args:
        webhook: the address; it may hold a secret, so only its host is ever told.
    """

    @dg.run_failure_sensor(
        name=NAME,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Tells {urlsplit(webhook).hostname} of runs that failed, with days and reasons.",
    )
    def alerts(context: dg.RunFailureSensorContext) -> None:
        post(webhook, text_of(context.instance, context.dagster_run, context.failure_event.message or ""))

    return alerts


def tell(webhook: str, instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Tells of a run that no daemon has started, of which the sensor learns nothing; why that failed, if it did."""
    run = instance.get_run_by_id(run_id)
    try:
        if run is not None:
            post(webhook, text_of(instance, run, "it failed"))
    except requests.RequestException as error:
        return str(error)
    return None


def text_of(instance: dg.DagsterInstance, run: dg.DagsterRun, otherwise: str) -> str:
    """What a person wants to know of a failed run: its days, and what failed why; `otherwise` where no step says so."""
    days = days_told(run.tags)
    reasons = list(dict.fromkeys(_reasons(instance, run.run_id))) or [otherwise]
    told = [reason[:_LONGEST] for reason in reasons[:_SHOWN]]
    if len(reasons) > _SHOWN:
        told.append(f"and {len(reasons) - _SHOWN} more")
    what = f"of {days} " if days else ""
    return "\n".join([f"Market data: the run {what}failed ({run.run_id}).", *(f"• {reason}" for reason in told)])


def _reasons(instance: dg.DagsterInstance, run_id: str) -> Iterator[str]:
    for record in instance.all_logs(run_id):
        event = record.dagster_event
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            found = event.asset_check_evaluation_data
            if found.blocking and not found.passed and found.severity == dg.AssetCheckSeverity.ERROR:
                yield f"{found.asset_key.to_user_string()}, check {found.check_name}: {found.description or 'failed'}"
        elif event.event_type == dg.DagsterEventType.STEP_FAILURE and (why := why_failed(event)):
            yield f"{event.step_key}: {why}"


def post(webhook: str, text: str) -> None:
    """Sends a text, and again where the other side is busy; raises requests.RequestException without the address."""
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=_TRIES))
        try:
            session.post(webhook, json={"text": text}, timeout=_TIMEOUT).raise_for_status()
        except requests.RequestException as error:
            status = getattr(error.response, "status_code", None)
            why = f"answered {status}" if status else type(error).__name__
            raise requests.RequestException(
                f"{urlsplit(webhook).hostname}: {why}; look at MARKET_DATA_WEBHOOK"
            ) from None
