"""Faults of a catalog that need a database of their own: a server that goes or turns read-only, a disk that is full."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.faults.course import survive
from tests.faults.matrix import Fault
from tests.faults.site import Site
from tests.nodes import logs
from tests.nodes.postgresql import PostgreSQL
from tests.nodes.waiting import wait_for


@pytest.fixture(scope="class")
def postgresql() -> Iterator[PostgreSQL]:
    """A server of our own."""
    with tempfile.TemporaryDirectory(prefix="pg-") as directory:  # the server's user cannot enter `tmp_path`
        server = PostgreSQL(Path(directory))
        try:
            server.start()
            yield server
        finally:
            server.end()


@pytest.fixture(scope="class")
def site(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL) -> Iterator[Site]:
    """A site whose catalog is there."""
    site = Site(tmp_path_factory.mktemp("site"), livelog_database_url=postgresql.url)
    try:
        site.start_worker(concurrency=3)
        yield site
    finally:
        site.close()


class TestPostgreSQL:
    """The server has trouble: the rows come when it is over."""

    def test_down(self, site: Site, postgresql: PostgreSQL) -> None:
        @contextmanager
        def down(site: Site) -> Iterator[None]:
            postgresql.stop()
            site.project.run("print_lines", task_id="while-down")
            yield
            postgresql.start()

        survive(site, Fault("down", down, "OperationalError", "the catalog"))
        wait_for(lambda: "while-down" in rows(postgresql), what="the rows of the time without")

    def test_read_only(self, site: Site, postgresql: PostgreSQL) -> None:
        @contextmanager
        def read_only(site: Site) -> Iterator[None]:
            alter(postgresql, "SET default_transaction_read_only = on")
            site.project.run("print_lines", task_id="while-read-only")
            yield
            alter(postgresql, "SET default_transaction_read_only = off")

        survive(site, Fault("read-only", read_only, "read-only", "the catalog"))
        wait_for(lambda: "while-read-only" in rows(postgresql), what="the rows of the time without")


def alter(postgresql: PostgreSQL, what: str) -> None:
    engine = create_engine(postgresql.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("SET default_transaction_read_only = off"))
        connection.execute(text(f"ALTER SYSTEM {what}"))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()


def rows(postgresql: PostgreSQL) -> list[str]:
    """The tasks whose end the catalog knows."""
    engine = create_engine(postgresql.url)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT task_id FROM livelog_attempts WHERE state = 'SUCCESS'")).scalars()
        ids = [str(task_id) for task_id in found]
    engine.dispose()
    return ids


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")
def test_full_disk(tmp_path: Path) -> None:
    """SQLite finds no room: tasks and their archive don't notice, and the rows come when there is room again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    site = Site(tmp_path, livelog_database_url=f"sqlite:///{disk / 'catalog.sqlite3'}")
    try:
        site.start_worker()
        logs.archived(site.project, site.project.run("print_lines").id)
        (disk / "ballast").write_bytes(bytes(disk_free(disk)))
        sent = [site.project.send("print_lines") for _ in range(300)]
        wait_for(site.said)
        for result in sent:
            assert result.get(timeout=60) == 3
        (disk / "ballast").unlink()
        for result in sent[::30]:
            assert len(logs.lines(logs.archived(site.project, result.id))) == 3
        warning, again = wait_for(lambda: said if len(said := site.said()) == 2 else None)
        assert "full" in warning or "disk I/O error" in warning
        assert "the catalog is written again" in again
    finally:
        site.close()
        subprocess.run(["umount", disk], check=True)


def disk_free(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize
