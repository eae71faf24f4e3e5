"""The site of a class of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.site import Site
from tests.nodes.waiting import wait_for


@pytest.fixture(scope="class")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a worker. At its end nothing is left: in the spool, in shared memory, in Redis for ever."""
    site = Site(tmp_path_factory.mktemp("site"), livelog_maxlen=3000)
    try:
        site.start_worker(concurrency=3)
        yield site
        assert site.stop_worker() == 0, site.worker.report()
        wait_for(lambda: site.left() == [], what="an empty spool")
    finally:
        site.close()
