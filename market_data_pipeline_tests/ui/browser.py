"""The project's UI as people have it: `make dev` on an empty instance, and a real browser in front of it."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

import market_data_pipeline
from market_data_pipeline_tests.ports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

PROJECT = Path(market_data_pipeline.__file__).parents[1]
PATIENCE = 300
"""Seconds until something must have happened: the daemon looks around every 30."""
SHOTS = "SCREENSHOTS"
"""The setting that names a folder for the pictures that the docs show."""


@dataclass(frozen=True)
class Ui:
    """A page of the UI, and where the UI is."""

    page: "Page"
    address: str

    def open(self, path: str) -> None:
        """Opens a page of the UI."""
        self.page.goto(f"{self.address}/{path}")

    def wait_for(self, text: str) -> "Locator":
        """Some text, once it is seen."""
        found = self.page.get_by_text(text).first
        found.wait_for()
        return found

    def wait_in(self, path: str, text: str) -> None:
        """Opens a page that renews itself, and waits until it shows a text."""
        self.open(path)
        self.wait_for(text)

    def launch(self, days: str, button: str) -> None:
        """Fills in the window that asks for partitions, and launches."""
        window = self.page.locator("[role=dialog]")
        window.get_by_text("Show all partitions").click()
        box = window.locator("input[type=text]").first
        box.fill(days)
        box.press("Enter")
        window.get_by_role("button", name=button).click()
        window.wait_for(state="detached")

    def keep(self, name: str) -> None:
        """Keeps a picture of the page where SCREENSHOTS says so."""
        if folder := os.environ.get(SHOTS):
            self.page.wait_for_timeout(1_000)  # until nothing moves any more
            self.page.screenshot(path=Path(folder) / f"ui-{name}.png")


@contextmanager
def opened_ui(folder: Path, **settings: str) -> Iterator[Ui]:
    """`make dev` with an empty lake and history in a folder, and a browser."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs Chromium: on Debian, apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with _served(folder, settings) as address, sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, as which containers mostly run
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=options)
        try:
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.set_default_timeout(PATIENCE * 1000)  # by default 30 s, which a busy machine may need for one page
            yield Ui(page, address)
        finally:
            browser.close()


@contextmanager
def _served(folder: Path, settings: dict[str, str]) -> Iterator[str]:
    home = folder / "home"
    home.mkdir()
    shutil.copy(PROJECT / "dagster.yaml", home)
    port = free_port()
    environment = os.environ | {"DAGSTER_HOME": str(home), "MARKET_DATA_LAKE": str(folder / "lake"), **settings}
    with (folder / "dev.log").open("w") as log:
        process = subprocess.Popen(
            ["make", "dev", f"PORT={port}"],
            cwd=PROJECT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            until = time.monotonic() + PATIENCE
            while not _answers(address):
                said = (folder / "dev.log").read_text()
                assert process.poll() is None, said
                assert time.monotonic() < until, said
                time.sleep(0.5)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):  # a busy machine takes its time
                process.wait(30)
            # whatever did not go by itself, such as a run that is still at work; mostly there is nothing left
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/server_info", timeout=2).ok
    except requests.ConnectionError:
        return False
