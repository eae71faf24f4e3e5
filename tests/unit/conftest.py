"""Databases for the tests of the catalog: a SQLite file, PostgreSQL, and the one LIVELOG_TEST_DATABASE_URL names."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from tests.nodes.postgresql import PostgreSQL

_OTHER_DATABASE = os.environ.get("LIVELOG_TEST_DATABASE_URL")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a server of our own."""
    pytest.importorskip("psycopg", reason='psycopg is missing: pip install "psycopg[binary]"')
    with tempfile.TemporaryDirectory(prefix="pg-") as directory:  # the server's user cannot enter `tmp_path`
        server = PostgreSQL(Path(directory))
        server.start()
        try:
            yield server.url
        finally:
            server.end()


@pytest.fixture(params=["sqlite", "postgresql", *(["other"] if _OTHER_DATABASE else [])])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'livelog' / 'catalog.sqlite3'}"
        return
    url = request.getfixturevalue("postgresql") if request.param == "postgresql" else str(_OTHER_DATABASE)
    yield url
    engine = create_engine(url)
    with engine.begin() as connection:
        for table in inspect(connection).get_table_names():
            if table.startswith("livelog_"):
                connection.execute(text(f"DROP TABLE {table}"))
    engine.dispose()
