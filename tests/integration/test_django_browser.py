"""The example's Django site in a real Chromium, with its own server and worker: what a user sees and does."""

from __future__ import annotations

import re
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.integration.test_browser import OPTIONS
from tests.nodes.process import LocalProcess, free_port
from tests.nodes.valkey import Valkey
from tests.nodes.waiting import wait_for

CHECKOUT = Path(__file__).parents[2]
PATIENCE = 60_000  # ms


class _Here(LocalProcess):
    """A process of the example project, which runs in the checkout and writes elsewhere."""

    def __init__(self, name: str, command: list[str], directory: Path, env: dict[str, str]) -> None:
        super().__init__(name, [sys.executable, "-m", *command], CHECKOUT, env)
        self.log = directory / f"{name}.log"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where worker and site keep their files."""
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def site(valkey_server: Valkey, state: Path) -> Iterator[str]:
    """The address of the site."""
    valkey_server.client.flushall()
    port = free_port()
    env = {"LIVELOG_DIR": str(state), "REDIS_URL": valkey_server.url}
    worker = ["celery", "-A", "example_project", "worker", "--concurrency=2", "--loglevel=INFO"]
    server = ["django", "runserver", "--settings=example_project.site.settings", "--noreload", f"127.0.0.1:{port}"]
    url = f"http://127.0.0.1:{port}/"
    with ExitStack() as ends:
        prepare = _Here("prepare", ["example_project.site.prepare"], state, env)
        ends.callback(prepare.end)
        prepare.start()
        assert prepare.wait() == 0, prepare.report()
        for name, command in (("worker", worker), ("server", server)):
            process = _Here(name, command, state, env)
            ends.callback(process.end)
            process.start()
        wait_for(lambda: _answers(f"{url}accounts/login/") or not process.running, what=f"an answer of {process!r}")
        assert process.running, process.report()
        yield url


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, of this machine or of playwright."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a new visitor, on which no script may fail."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield page
    page.context.close()
    assert not failures


def log_in(page: Page, site: str, name: str) -> None:
    page.goto(site)
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", name)
    page.click("button")
    expect(page.locator("h1")).to_contain_text("Project")


def test_a_pipeline_from_the_button_to_its_end(page: Page, site: str) -> None:
    """Its log and its stages are live on the site's page, and its messages come with the next one."""
    log_in(page, site, "alice")
    page.get_by_role("button", name="Compile project 7").click()
    stages = page.locator("live-log-stages").first
    expect(page.locator("live-log .ll-row").first).to_be_visible(timeout=PATIENCE)
    expect(page.locator("live-log .ll-badge")).to_have_text("Live")
    expect(stages.locator(".ll-stage-item.ll-stage-running", has_text="Parse")).to_contain_text("of", timeout=PATIENCE)
    expect(page.locator("live-log .ll-badge")).to_have_text("Ended", timeout=PATIENCE)
    expect(page.locator("live-log .ll-row").last).to_contain_text("SUCCESS")
    expect(stages.locator(".ll-state")).to_have_text("SUCCESS", timeout=PATIENCE)
    expect(stages.locator(".ll-stage-item.ll-stage-complete")).to_have_count(4)
    said: list[str] = []

    def see() -> bool:
        page.reload()
        said.extend(page.locator(".messages li").all_inner_texts())
        return any("Package: complete" in line for line in said)

    wait_for(see, what="messages of the stages")
    for name in ("Collect", "Parse", "Compile", "Package"):
        for what in ("started", "complete"):
            assert sum(f"compile: {name}: {what}" in line for line in said) == 1, said


def test_the_progress_file_is_that_of_the_run_s_directory(page: Page, site: str, state: Path) -> None:
    """The link on the page leads to the same lines that the worker has written."""
    log_in(page, site, "alice")
    page.get_by_role("button", name="Automate site main").click()
    stages = page.locator("live-log-stages").last
    expect(stages.locator(".ll-state")).to_have_text("SUCCESS", timeout=PATIENCE)
    with page.expect_download() as download:
        stages.get_by_role("link", name="progress.jsonl").click()
    lines = download.value.path().read_text()
    assert lines.count("complete") >= 3
    (file,) = state.glob("logs/automation/acme/main/*/stages/progress.jsonl")
    wait_for(lambda: file.read_text() == lines, what="the same lines in the run's directory")


def test_the_app_s_own_pages(page: Page, site: str) -> None:
    """Runs lead to their stages and tasks, and these to their logs."""
    log_in(page, site, "alice")
    page.get_by_role("link", name="All runs").click()
    page.locator("live-log-runs a", has_text="compile").first.click()
    expect(page.locator(".ll-stage-item")).to_have_count(4)
    page.locator("live-log-run-tasks a").first.click()
    expect(page.locator("live-log .ll-badge")).to_have_text("Ended", timeout=PATIENCE)
    page.get_by_role("link", name="Tasks").click()
    expect(page.locator("live-log-tasks tbody tr")).to_have_count(2)


def test_another_account_sees_nothing_of_it(page: Page, site: str) -> None:
    """Neither on the project's page, nor in lists, nor by the address of the run or the task."""
    log_in(page, site, "bob")
    expect(page.locator("live-log-stages")).to_have_text([re.compile("No run to show yet.")] * 2)
    for place, element in (("livelog/", "live-log-tasks"), ("livelog/runs", "live-log-runs")):
        page.goto(site + place)
        expect(page.locator(f"{element} .empty-table-message")).to_be_visible()
        expect(page.locator(f"{element} tbody tr")).to_have_count(0)
