"""A log of the relay in a real Chromium: on the relay's own page, and on a page of another site."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from tests.integration.relays import OVER, environment, logs, token
from tests.integration.test_browser import browser, page  # noqa: F401 - fixtures
from tests.nodes.relay import Relay
from tests.nodes.valkey import Valkey


@contextmanager
def another_site() -> Iterator[tuple[str, dict[str, str]]]:
    """A web site, and its pages by path."""
    pages: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in pages else 404)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(pages.get(self.path, "").encode())

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", pages
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_pages_with_tokens(
    page: Page,  # noqa: F811
    valkey: Valkey,
    tmp_path: Path,
    launch: Callable[[Relay], Relay],
) -> None:
    """The relay's own page asks for a token and shows the log; a page of a named origin shows it with the token that
    it brings, also as a file; one of another origin shows nothing."""
    with another_site() as (site, pages), another_site() as (stranger, pages_of_stranger), logs(valkey, tmp_path):
        relay = launch(Relay(tmp_path, environment(valkey, tmp_path), [f"--origin={site}"]))
        rows = page.locator("live-log .ll-row")

        page.goto(f"{relay.url}/task/{OVER}")
        page.get_by_label("Token").fill("of-nobody")
        page.get_by_role("button", name="Show").click()
        expect(page.locator(".ll-token")).to_contain_text("The token is not valid")
        page.get_by_label("Token").fill(token())
        page.get_by_role("button", name="Show").click()
        expect(rows).to_have_count(4)
        expect(page.locator(".ll-token")).to_have_count(0)
        assert "token" not in page.url

        embedded = f"""
            <!doctype html>
            <link rel="stylesheet" href="{relay.url}/static/livelog.css">
            <script type="module" src="{relay.url}/static/livelog.js" crossorigin></script>
            <live-log root="{relay.url}" task="{OVER}" token="{token()}"></live-log>
        """
        pages["/page"] = pages_of_stranger["/page"] = embedded
        page.goto(f"{site}/page")
        expect(rows).to_have_count(4)
        assert page.locator("live-log .ll-toolbar").evaluate("bar => getComputedStyle(bar).display") == "flex"
        with page.expect_download() as saved:
            page.get_by_role("link", name="Download").first.click()
        assert saved.value.suggested_filename == f"{OVER}.log"
        assert Path(saved.value.path()).read_text() == "line 1\nline 2\nline 3\n"

        page.goto(f"{stranger}/page")
        assert page.evaluate("() => customElements.get('live-log')") is None
