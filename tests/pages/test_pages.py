"""The Dagster, MLflow and live pages in a browser, after a run of a small newsroom.

Skipped without Chromium or the extra `[pages]`. `MOMENTRANK_SCREENSHOTS=folder` saves screenshots.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra [pages]")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

PROJECT = Path(__file__).parents[2] / "projects" / "newsroom.toml"
SMALL = (
    "source.newsroom.days=3",
    "source.newsroom.users=30",
    "source.newsroom.articles_a_day=12",
    "source.newsroom.impressions_a_day=80",
    "source.newsroom.list_size=8",
    "slices.end=2026-01-08T00:00:00Z",
    "interest.epochs=1",
    "interest.max_tokens=16",
    "ranker.num_iterations=20",
    "lists.users=5",
    "lists.pool=20",
    "checks.rejected=0.0001",  # the newsroom's logs have a few broken lines, so this check fails
)
TIMEOUT = 120
"""Seconds to wait for a server or a run on a busy machine."""


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Run a newsroom of three days, then serve its pages; yields their addresses."""
    ports = [_port() for _ in range(3)]
    dagster, mlflow, live = (f"http://127.0.0.1:{port}" for port in ports)
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {
        "MOMENTRANK_HOME": str(home),
        "MOMENTRANK_DAGSTER_URL": dagster,
        "MOMENTRANK_MLFLOW_URL": mlflow,
    }
    command = [sys.executable, "-c", "from pipelines.cli.commands import main; main()"]
    arguments = [str(PROJECT), *(f"--set={one}" for one in SMALL)]
    subprocess.run([*command, "run", *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)
    with (home / "ui.log").open("w") as log:
        servers = [
            subprocess.Popen([*command, *started, *arguments], env=environment, stdout=log, stderr=log)
            for started in (["ui"], ["serve", "--port", str(ports[2])])
        ]
    try:
        for address in (dagster, mlflow, f"{live}/ready"):
            _await(address)
        yield SimpleNamespace(dagster=dagster, mlflow=mlflow, live=live)
    finally:
        for server in servers:
            server.send_signal(signal.SIGINT)
            server.wait(60)


def _await(address: str) -> None:
    until = time.monotonic() + TIMEOUT
    while True:
        try:
            urlopen(address, timeout=5).close()
            return
        except (URLError, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(TIMEOUT * 1000)
        yield page
        browser.close()


def _screenshot(page: Any, name: str) -> None:
    if folder := os.environ.get("MOMENTRANK_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")


def test_the_graph_shows_the_groups_of_assets(served: SimpleNamespace, page: Any) -> None:
    page.goto(f"{served.dagster}/asset-groups")

    for group in ("events", "moments", "interest", "ranker", "lists"):
        page.get_by_text(f"newsroom_{group}", exact=True).first.wait_for()
    _screenshot(page, "dagster_groups")


def test_a_slice_is_materialised_by_pressing_the_button(served: SimpleNamespace, page: Any) -> None:
    page.goto(f"{served.dagster}/assets/newsroom/features?view=overview")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_text("Latest", exact=True).first.click()
    launch = page.get_by_role("button", name="Launch 1 run")
    # Wait for the response: leaving the page earlier cancels the request, and the button disappears at once.
    with page.expect_response(lambda response: "/graphql?op=Launch" in response.url) as launched:
        launch.click()
    assert "errors" not in launched.value.json()

    page.goto(f"{served.dagster}/runs")
    page.get_by_text("partition: 2026-01-07").first.wait_for()
    page.wait_for_function("() => document.body.innerText.split('Success').length === 3")
    _screenshot(page, "dagster_runs")


def test_an_asset_shows_its_figures_and_its_plot(served: SimpleNamespace, page: Any) -> None:
    page.goto(f"{served.dagster}/assets/newsroom/evaluation?view=overview")

    page.get_by_text("impressions_evaluated").first.wait_for()
    page.get_by_text("[Show Markdown]").last.click()
    image = page.locator("img[src^='data:image/png']").first
    image.wait_for()
    assert image.evaluate("image => image.clientWidth <= image.parentElement.clientWidth")
    _screenshot(page, "dagster_evaluation")


def test_a_failed_check_is_shown(served: SimpleNamespace, page: Any) -> None:
    page.goto(f"{served.dagster}/assets/newsroom/rejects?view=checks")

    page.get_by_text("Failed").first.wait_for()
    _screenshot(page, "dagster_check")


def test_mlflow_shows_the_versions_and_who_serves(served: SimpleNamespace, page: Any) -> None:
    page.goto(f"{served.mlflow}/#/models/newsroom-ranker")

    page.get_by_text("challenger").first.wait_for()
    for version in ("Version 1", "Version 2", "Version 3"):
        page.get_by_text(version, exact=True).first.wait_for()
    _screenshot(page, "mlflow_versions")


def test_a_click_on_the_live_page_changes_the_list(served: SimpleNamespace, page: Any) -> None:
    page.goto(served.live)
    page.locator("li .title").first.wait_for()
    clicked = page.locator("li .title").nth(2).inner_text()
    page.get_by_role("button", name="click").nth(2).click()

    page.locator("li .moved", has_text="new").first.wait_for()
    assert clicked not in page.locator("li .title").all_inner_texts()
    _screenshot(page, "live_page")
