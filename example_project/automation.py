"""A pipeline of numbered stages that costs credits: what the pages of a site are about."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from threading import Event

from celery.utils.log import get_task_logger

from celery_livelog import run, stage
from example_project.celery_app import CHECKOUT, app

WORDS_PER_CREDIT = 100
KEYWORDS = 40

logger = get_task_logger(__name__)


@app.task
def automate_site(account: str, site: str, pace: float = 0.02, **fields: str) -> int:
    """Read the pages of this project's documentation; give the credits that it took.

    :param pace: seconds between two items, so that there is something to watch.
    :param fields: what else the run is known by.
    """
    with run(name="automation", account=account, site=site, **fields):
        words, credits_read = read_pages(sorted((CHECKOUT / "docs").glob("*.md")), pace)
        clusters, credits_placed = cluster(words, pace)
        return credits_read + credits_placed + outline(clusters, pace)


def read_pages(pages: list[Path], pace: float) -> tuple[dict[str, Counter[str]], int]:
    """Stage 1: the words of each page."""
    words = {}
    with stage("Keywords", pending=len(pages)) as reading:
        for page in pages:
            words[page.stem] = Counter(re.findall(r"[a-z]{5,}", page.read_text().lower()))
            reading.trace("page_read", page=page.stem, words=words[page.stem].total())
            reading.advance(message=page.name)
            Event().wait(pace)
        spent = sum(counts.total() for counts in words.values()) // WORDS_PER_CREDIT
        reading.result({"pages": len(pages), "credits_used": spent})
    return words, spent


def cluster(words: dict[str, Counter[str]], pace: float) -> tuple[dict[str, list[str]], int]:
    """Stage 2: the page that each of the most frequent words is about."""
    clusters: dict[str, list[str]] = {}
    keywords = [word for word, _ in sum(words.values(), Counter[str]()).most_common(KEYWORDS)]
    with stage("Clusters", pending=len(keywords)) as placing:
        for keyword in keywords:
            page = max(words, key=lambda page: words[page][keyword])
            clusters.setdefault(page, []).append(keyword)
            placing.trace("keyword_placed", keyword=keyword, page=page)
            placing.advance(message=keyword)
            Event().wait(pace)
        placing.result({"clusters": len(clusters), "credits_used": len(keywords) // 10})
    return clusters, len(keywords) // 10


def outline(clusters: dict[str, list[str]], pace: float) -> int:
    """Stage 3: say what each page is about."""
    with stage("Outlines", pending=len(clusters)) as writing:
        for page, keywords in clusters.items():
            print(f"{page}: {', '.join(keywords)}")
            if len(keywords) == 1:
                logger.warning("%s is about one thing only", page)
            writing.trace("outline_written", page=page)
            writing.advance(message=page)
            Event().wait(pace)
        writing.result({"outlines": len(clusters), "credits_used": len(clusters)})
    return len(clusters)
