"""Take the pictures of the documents: the example project in a real Flower, as Chromium shows it.

python docs/screenshots.py
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, ViewportSize, expect, sync_playwright

CHECKOUT = Path(__file__).resolve().parent.parent
IMAGES = CHECKOUT / "docs" / "images"
SIZE = ViewportSize(width=1360, height=860)
OPTIONS = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]


def main() -> None:
    """Run the demo and take a picture of a task that runs, in light, and of the same when it is over, in dark."""
    sys.path.insert(0, str(CHECKOUT))
    from example_project.demo import Demo

    IMAGES.mkdir(exist_ok=True)
    with ExitStack() as services:
        directory = services.enter_context(tempfile.TemporaryDirectory())
        browser = services.enter_context(sync_playwright()).chromium.launch(
            executable_path=shutil.which("chromium"), args=OPTIONS
        )
        services.callback(browser.close)
        os.environ["LIVELOG_DIR"] = directory
        demo = Demo(Path(directory), services)
        demo.start()
        url = f"{demo.flower_url}/livelog/task/{demo.send()['survey_stdlib']}"
        take(browser, url, "light", wait_for="Stage 2")
        take(browser, url, "dark", wait_for="SUCCESS")


def take(browser: Browser, url: str, scheme: Literal["light", "dark"], wait_for: str) -> None:
    """Save what the page at `url` looks like once `wait_for` is in the log."""
    page = browser.new_page(viewport=SIZE, color_scheme=scheme)
    page.goto(url)
    expect(page.locator(".ll-row", has_text=wait_for).first).to_be_attached(timeout=60_000)
    page.wait_for_timeout(1500)
    page.screenshot(path=IMAGES / f"flower-{scheme}.png")
    page.context.close()


if __name__ == "__main__":
    main()
