"""Runs that failed are told to a webhook."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest
import requests

from market_data_pipeline.defs import alerts
from market_data_pipeline.defs.alerts import post
from market_data_pipeline.model.errors import SettingError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.defs.running import Pipeline, SmallSource, pipeline
from market_data_pipeline_tests.defs.test_quality import BAD, BLOCKING, Twice
from market_data_pipeline_tests.defs.test_quality import ETH as TWICE

DAY = date(2024, 3, 5)
ETH = Instrument.parse("binance-futures:Perp:ETH-USDT")


class Hook(ThreadingHTTPServer):
    """What was told to it; answers with these states in turn, then with 200."""

    def __init__(self, *states: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.states, self.told = list(states), list[str]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/services/secret"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
        self.send_response(self.server.states.pop(0) if self.server.states else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hook(*states: int) -> Iterator[Hook]:
    with Hook(*states) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Broken(SmallSource):
    """A source whose listing of files raises."""

    def files(self, *_: object) -> Iterator[object]:  # type: ignore[override]
        raise RuntimeError("the vendor's door is shut")


def failed(running: Pipeline) -> dg.RunFailureSensorContext:
    (run,) = running.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    records = running.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    event = records[-1].dagster_event
    assert event is not None
    return dg.build_run_status_sensor_context(alerts.NAME, event, running.instance, run).for_run_failure()


def alert(running: Pipeline) -> None:
    running.defs.resolve_sensor_def(alerts.NAME)(failed(running))


def test_a_run_that_raised_is_told_with_its_day_and_reason(tmp_path: Path) -> None:
    with hook() as server, pipeline(Settings(lake=str(tmp_path), webhook=server.url), Broken([ETH])) as running:
        assert not running.run(DAY, assets=["trades"]).succeeded
        alert(running)
        (text,) = server.told
        assert text.startswith("Market data: the run of 2024-03-05 failed (")
        assert text.splitlines()[1:] == ["• trades: RuntimeError: the vendor's door is shut"]


def test_a_check_that_blocks_is_told_with_what_it_found(tmp_path: Path) -> None:
    with hook() as server:
        settings = Settings(lake=str(tmp_path), webhook=server.url, blocking=BLOCKING)
        with pipeline(settings, Twice((TWICE,))) as running:
            assert not running.run(BAD).succeeded
            alert(running)
    (text,) = server.told
    first, *reasons = text.splitlines()
    assert first.startswith(f"Market data: the run of {BAD} failed (")
    found = f"check quality: {TWICE} on {BAD}: duplicate_ids: 40 rows of 80 repeat a trade id"
    assert {reason.partition(", first")[0] for reason in reasons} == {f"• trades, {found}", f"• liquidations, {found}"}


def test_there_is_no_sensor_without_a_webhook_and_a_running_one_with_it(tmp_path: Path) -> None:
    settings = Settings(lake=str(tmp_path))
    with pipeline(settings, SmallSource([ETH])) as running:
        assert [sensor.name for sensor in running.defs.sensors or []] == ["corrections", "missing_days"]
    with pipeline(
        replace(settings, webhook="https://hooks.example.com/services/secret"), SmallSource([ETH])
    ) as running:
        sensor = running.defs.resolve_sensor_def(alerts.NAME)
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
        assert "hooks.example.com" in (sensor.description or "")
        assert "secret" not in f"{sensor.description} {running.defs}"


def test_a_hook_that_is_busy_is_asked_again() -> None:
    with hook(503, 429) as server:
        post(server.url, "hello")
        assert server.told == ["hello"] * 3


def test_a_hook_that_refuses_is_named_without_its_secret() -> None:
    with hook(404) as server, pytest.raises(requests.RequestException) as raised:
        post(server.url, "hello")
    assert str(raised.value) == "127.0.0.1: answered 404; look at MARKET_DATA_WEBHOOK"
    with pytest.raises(requests.RequestException, match="MARKET_DATA_WEBHOOK") as raised:
        post("http://127.0.0.1:1/services/secret", "hello")
    assert "secret" not in f"{raised.value!r}{raised.value.__cause__}"


def test_the_address_comes_from_the_settings(tmp_path: Path) -> None:
    address = "https://hooks.example.com/services/secret"
    assert Settings.load({"MARKET_DATA_WEBHOOK": address}, tmp_path).webhook == address
    assert "secret" not in repr(Settings.load({"MARKET_DATA_WEBHOOK": address}, tmp_path))
    with pytest.raises(SettingError, match="MARKET_DATA_WEBHOOK is no address"):
        Settings.load({"MARKET_DATA_WEBHOOK": "hooks.example.com"}, tmp_path)
