"""The pages of the Flower tab in a real Chromium: what a person sees and does."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.integration.web import serving
from tests.nodes.flower import Flower
from tests.nodes.project import Project
from tests.nodes.valkey import Valkey

#: Chromium as root in a container, on a machine without a display, and without a word to anybody else.
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync"]

#: In place of the browser's own, it fails as behind a proxy that knows no WebSockets.
NO_WEBSOCKET = """
window.WebSocket = class {
  constructor() { this.readyState = 3; setTimeout(() => this.onclose?.({ code: 1006 })); }
  close() {}
};
"""

#: A record of each kind but a task's lines.
KINDS: list[dict[str, Any]] = [
    {"type": "stage_start", "stage": 1, "name": "Unpack", "pending": 120},
    {"type": "stage_progress", "stage": 1, "name": "Unpack", "done": 10, "total": 120},
    {"type": "log_line", "stream": "stdout", "line": "between"},
    {"type": "stage_progress", "stage": 1, "name": "Unpack", "done": 110, "total": 120},
    {"type": "stage_complete", "stage": 1, "name": "Unpack", "elapsed": 0.83, "processed": 120},
    {"type": "stage_start", "stage": 2, "name": "Compile"},
    {"type": "stage_progress", "stage": 2, "name": "Compile", "done": 45, "total": 90, "message": "half"},
    {"type": "trace", "event": "cache", "data": {"hit": True}},
    {"type": "run_start", "run_id": "run_1", "name": "nightly"},
    {"type": "run_end", "run_id": "run_1", "state": "FAILURE", "elapsed": 2, "error": "OSError: full"},
    {"type": "gap", "skipped": 15, "first": 9, "last": 23, "reason": "overload"},
    {"type": "log_line", "stream": "internal", "line": "a word of livelog's own"},
    {"type": "log_line", "stream": "log", "level": "INFO", "logger": "shop", "line": "paid", "fields": {"to": "u 1"}},
]

Site = tuple[Project, Flower]


@pytest.fixture(scope="module")
def site(valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A project that is served."""
    with serving(valkey_server, tmp_path_factory.mktemp("browser")) as (project, flower):
        yield project, flower


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
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield page
    page.context.close()
    assert not failures


def open_log(page: Page, site: Site, task_id: str) -> Locator:
    """Open a task's page; give its rows."""
    page.goto(f"{site[1].url}/livelog/task/{task_id}")
    return page.locator(".ll-block .ll-row")


def expect_state(page: Page, state: str) -> None:
    expect(page.locator("live-log .ll-badge")).to_have_text(state, timeout=30_000)


def distance_to_end(page: Page) -> float:
    """Pixels below what is in view."""
    return float(page.locator(".ll-scroll").evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight"))


# -- from the first line to the last ----------------------------------------------------------------------------------


def test_lines_appear_while_the_task_runs(page: Page, site: Site, valkey_server: Valkey) -> None:
    """A page that is opened too early says so, shows each line when it is printed, and at last the outcome."""
    task_id, key = "seen-live", "release-seen-live"
    rows = open_log(page, site, task_id)
    expect_state(page, "Waiting")
    expect(page.locator(".ll-empty")).to_contain_text("new lines appear here by themselves")
    site[0].send("hold", key, task_id=task_id)
    expect(rows.last).to_contain_text("holding")
    expect_state(page, "Live")
    expect(page.locator("live-log-head")).to_contain_text("proj.hold")
    valkey_server.client.rpush(key, "go")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text("released")
    expect(rows.last).to_contain_text("SUCCESS · exit code 0")
    expect_state(page, "Ended")
    expect(page.locator("live-log-head .badge")).to_have_text("SUCCESS")


def test_the_whole_log_after_the_end(page: Page, site: Site) -> None:
    """All lines, in order, each once; the newest in view."""
    rows = open_log(page, site, site[0].run("number_lines", 3000).id)
    expect(rows).to_have_count(3001)
    texts = page.locator(".ll-line .ll-text").all_text_contents()
    assert texts == [str(number) for number in range(1, 3001)]
    assert distance_to_end(page) < 2
    expect(page.locator(".ll-total")).to_have_text("3\u202f000 lines")
    expect(page.locator(".ll-head")).to_be_hidden()


def test_a_log_too_long_for_a_page(page: Page, site: Site) -> None:
    """The newest 20,000 lines are shown, with a link to all of them above."""
    task_id = site[0].run("number_lines", 30_000).id
    rows = open_log(page, site, task_id)
    expect_state(page, "Ended")
    expect(rows.last).to_contain_text("SUCCESS")
    texts = page.locator(".ll-line .ll-text").all_text_contents()
    assert 20_000 <= len(texts) <= 20_500
    assert texts == [str(number) for number in range(30_001 - len(texts), 30_001)]
    expect(page.locator(".ll-head")).to_contain_text("Earlier lines are not shown here.")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download", exact=True).click()
    assert download.value.suggested_filename == f"{task_id}.log"
    assert download.value.path().read_text() == "".join(f"{number}\n" for number in range(1, 30_001))


def test_every_attempt_has_its_heading(page: Page, site: Site) -> None:
    """A retry is told from the first try; the log of one attempt alone has no heading."""
    rows = open_log(page, site, site[0].run("retry_once").id)
    expect(rows).to_have_count(4)
    expect(page.locator(".ll-attempt")).to_have_text(["Attempt 1", "Attempt 2"])
    expect(page.locator(".ll-attempt").first).to_be_visible()
    expect(page.locator(".ll-end-retry")).to_be_visible()
    open_log(page, site, site[0].run("print_lines").id)
    expect_state(page, "Ended")
    expect(page.locator(".ll-attempt").first).to_be_hidden()


def test_streams_and_levels_are_told_apart(page: Page, site: Site) -> None:
    """What went to stderr, and each level, look different; an exception has its lines."""
    open_log(page, site, site[0].run("write_stderr").id)
    expect(page.locator(".ll-stderr .ll-text")).to_have_text("to stderr")
    open_log(page, site, site[0].run("log").id)
    expect(page.locator(".ll-warning .ll-text")).to_have_text("WARNING root from the root logger")
    expect(page.locator(".ll-error .ll-logger")).to_have_text("some.library")
    open_log(page, site, site[0].run("fail").id)
    expect(page.locator(".ll-end-failure")).to_contain_text("FAILURE · exit code 1 · RuntimeError")


def test_a_task_that_printed_nothing(page: Page, site: Site) -> None:
    """The page does not wait for lines that cannot come."""
    task_id = site[0].run("silent").id
    open_log(page, site, task_id)
    expect_state(page, "Ended")
    expect(page.locator(".ll-scroll")).to_contain_text(re.compile("This task printed nothing|SUCCESS"))


def test_hostile_output_is_only_text(page: Page, site: Site) -> None:
    """Markup is shown, not obeyed; so are the escapes of a terminal, but for its colours."""
    script = "document.title='taken'"
    word = f'<img src=x onerror="{script}"><script>{script}</script>\x1b[31mred\x1b[0m\x1b[2J\x07'
    rows = open_log(page, site, site[0].run("print_lines", 1, word).id)
    expect_state(page, "Ended")
    expect(rows.first).to_contain_text(f'<img src=x onerror="{script}"><script>')
    expect(rows.first.locator(".ll-colour-1")).to_have_text("red")
    expect(rows.first).to_contain_text("red\\x07 1")
    assert "taken" not in page.title()
    assert page.locator("live-log :is(img, script)").count() == 0


def test_an_unfinished_line_shows_until_it_is_whole(page: Page, site: Site, valkey_server: Valkey) -> None:
    """What was written of a line is seen before its end, and then gives way to the line."""
    task_id, key = "seen-unfinished", "release-unfinished"
    rows = open_log(page, site, task_id)
    site[0].send("prompt", key, task_id=task_id)
    expect(page.locator(".ll-partial .ll-text")).to_have_text("name? ", use_inner_text=False)
    expect(rows).to_have_count(0)
    valkey_server.client.rpush(key, "go")
    expect_state(page, "Ended")
    assert page.locator(".ll-line .ll-text").all_text_contents() == ["name? Celery"]
    expect(page.locator(".ll-partial")).to_have_count(0)


def test_what_is_not_a_line_looks_like_what_it_is(page: Page, site: Site) -> None:
    """Stages, traces and gaps each have their look; of how far a stage is, only the last is shown."""
    rows = open_log(page, site, "of-no-task")
    expect_state(page, "Waiting")
    records = [{"timestamp": "2026-11-23T08:00:00.000000+00:00", "n": n, **record} for n, record in enumerate(KINDS, 1)]
    batch = {"attempt": "0123456789abcdef", "number": 1, "records": records}
    page.locator("live-log").evaluate("(log, batch) => { log.rows.add(batch); log.empty.hidden = true; }", batch)
    texts = [
        "Stage 1 Unpack · 120 to do",
        "between",
        "Stage 1 Unpack complete in 830 ms · 120 processed",
        "Stage 2 Compile",
        "Stage 2 Compile  45 of 90 · half",
        'cache {"hit":true}',
        "Run nightly · run_1",
        "Run run_1 failed after 2.00 s: OSError: full",
        "[15 messages skipped] The task printed faster than it could be kept.",
        "a word of livelog's own",
        'INFO shop paid to="u 1"',
    ]
    expect(rows.locator(".ll-text")).to_have_text(texts, use_inner_text=True)
    expect(page.locator(".ll-gap, .ll-internal")).to_have_count(3)
    expect(page.locator("progress")).to_have_js_property("value", 45)


def test_a_very_long_line_is_one_row(page: Page, site: Site) -> None:
    """It comes in pieces; the row shows its beginning and says how much more there is."""
    rows = open_log(page, site, site[0].run("long_line", 300_000).id)
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("290\u202f000 more characters in the download")
    assert len(rows.first.locator(".ll-text").text_content() or "") < 11_000


# -- reading ----------------------------------------------------------------------------------------------------------


def test_who_scrolls_up_is_left_alone(page: Page, site: Site) -> None:
    """New lines are counted, not shown, until the reader comes back to the end."""
    task_id = site[0].send("print_times", 600, 0.02).id
    rows = open_log(page, site, task_id)
    expect(rows.nth(60)).to_be_attached()
    follow = page.get_by_role("button", name="Follow")
    assert distance_to_end(page) < 30
    expect(follow).to_have_attribute("aria-pressed", "true")

    page.locator(".ll-scroll").hover()
    page.mouse.wheel(0, -300)
    expect(follow).to_have_attribute("aria-pressed", "false")
    page.wait_for_timeout(500)  # browsers scroll in steps
    place = page.locator(".ll-scroll").evaluate("log => log.scrollTop")
    resume = page.get_by_role("button", name="new lines")
    expect(resume).to_have_text(re.compile(r"↓ \d+ new lines"))
    assert page.locator(".ll-scroll").evaluate("log => log.scrollTop") == place

    resume.click()
    expect(follow).to_have_attribute("aria-pressed", "true")
    expect(resume).to_be_hidden()
    assert distance_to_end(page) < 30
    page.locator(".ll-scroll").hover()
    page.mouse.wheel(0, -300)
    expect(follow).to_have_attribute("aria-pressed", "false")
    page.mouse.wheel(0, 100_000)
    expect(follow).to_have_attribute("aria-pressed", "true")


def test_search(page: Page, site: Site) -> None:
    """What is found is counted and gone through, back and forth, by keys alone."""
    rows = open_log(page, site, site[0].run("number_lines", 300).id)
    expect(rows).to_have_count(301)
    found = page.locator(".ll-found")
    page.keyboard.press("/")
    page.keyboard.type("29")
    expect(found).to_have_text("13 found")  # 29, 129, 229, 290 to 299
    page.keyboard.press("Enter")
    expect(found).to_have_text("1 of 13")
    expect(rows.nth(28)).to_be_in_viewport()
    page.keyboard.press("Shift+Enter")
    expect(found).to_have_text("13 of 13")
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    page.keyboard.press("n")
    expect(found).to_have_text("2 of 13")
    expect(rows.nth(128)).to_be_in_viewport()
    page.get_by_role("searchbox").fill("not there")
    expect(found).to_have_text("0 found")


def test_times_and_wrapping_are_remembered(page: Page, site: Site) -> None:
    """Local times with UTC in the tooltip, long lines broken: each by a key, and the same for the next log."""
    task_id = site[0].run("print_lines").id
    rows = open_log(page, site, task_id)
    time = rows.first.locator("time")
    expect(time).to_be_visible()
    expect(time).to_have_text(re.compile(r"^\d\d:\d\d:\d\d\.\d{3}$"))
    expect(time).to_have_attribute("title", re.compile(r"^20\d\d-.*\+00:00$"))
    page.keyboard.press("t")
    page.keyboard.press("w")
    expect(time).to_be_hidden()
    open_log(page, site, task_id)
    expect(rows.first).to_be_visible()
    expect(time).to_be_hidden()
    expect(page.get_by_role("button", name="Wrap")).to_have_attribute("aria-pressed", "false")


# -- when the way is bad ----------------------------------------------------------------------------------------------


def test_a_server_that_goes_and_comes_back(page: Page, site: Site) -> None:
    """The page goes on by itself where it was, while the task prints on: no line twice, none missing."""
    project, flower = site
    task_id = project.send("print_times", 250, 0.02).id
    rows = open_log(page, site, task_id)
    expect(rows.nth(20)).to_be_attached()
    flower.stop()
    expect_state(page, "Reconnecting")
    flower.start()
    expect_state(page, "Ended")
    times = [int(text) for text in page.locator(".ll-line .ll-text").all_text_contents()]
    assert len(times) == 250
    assert times == sorted(set(times))


def test_without_websockets(page: Page, site: Site, valkey_server: Valkey) -> None:
    """Long-polling takes over: the same lines, live and to the end."""
    task_id, key = "seen-by-polling", "release-polling"
    page.add_init_script(NO_WEBSOCKET)
    rows = open_log(page, site, task_id)
    site[0].send("hold", key, task_id=task_id)
    expect(rows.last).to_contain_text("holding", timeout=30_000)
    expect_state(page, "Live")
    valkey_server.client.rpush(key, "go")
    expect_state(page, "Ended")
    assert page.locator(".ll-line .ll-text").all_text_contents() == ["holding", "released"]


# -- around the log ---------------------------------------------------------------------------------------------------


def test_the_list_keeps_up_and_leads_to_the_log(page: Page, site: Site, valkey_server: Valkey) -> None:
    """A task appears when it starts, changes its state when it ends, and is found by what it is."""
    task_id, key = "seen-in-the-list", "release-list"
    page.goto(f"{site[1].url}/livelog")
    row = page.locator("live-log-tasks tbody tr", has_text=task_id)
    site[0].send("hold", key, task_id=task_id)
    expect(row.locator(".badge")).to_have_text("STARTED", timeout=15_000)
    valkey_server.client.rpush(key, "go")
    expect(row.locator(".badge")).to_have_text("SUCCESS", timeout=15_000)

    page.get_by_role("button", name="Running").click()
    expect(row).to_be_hidden()
    page.get_by_role("button", name="All").click()
    page.get_by_role("searchbox").fill("no such task")
    expect(page.locator(".empty-table-message")).to_have_text("No task matches the filter.")
    page.get_by_role("searchbox").fill("in-the-LIST")
    row.get_by_role("link", name="proj.hold").click()
    expect(page.locator(".ll-block .ll-row").first).to_contain_text("holding")


def test_from_flowers_task_page_and_back(page: Page, site: Site) -> None:
    """Flower's own page of a task has a button to its log, which leads back."""
    task_id = site[0].run("print_lines").id
    page.goto(f"{site[1].url}/tasks")
    page.get_by_role("link", name=task_id).click(timeout=15_000)
    page.locator("#task-page").get_by_role("link", name="Live logs").click()
    expect(page.locator(".ll-block .ll-row")).to_have_count(4)
    page.get_by_role("link", name="Task details").click()
    expect(page).to_have_url(f"{site[1].url}/task/{task_id}")


def test_the_theme_is_flowers(browser: Browser, site: Site) -> None:
    """Light or dark, as Flower's own pages are; before 2.1 they were always light."""
    shades = {None: "rgb(249, 250, 248)", "light": "rgb(249, 250, 248)", "dark": "rgb(21, 27, 20)"}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(f"{site[1].url}/livelog/task/of-no-task")
        theme = page.locator("html").get_attribute("data-bs-theme")
        assert theme in (scheme, None)
        assert page.locator(".ll-scroll").evaluate("log => getComputedStyle(log).backgroundColor") == shades[theme]
        page.context.close()
