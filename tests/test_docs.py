"""What the documents say is what there is."""

from __future__ import annotations

import ast
import configparser
import dataclasses
import re
from pathlib import Path
from typing import get_args

import click
import pytest

import celery_livelog
from celery_livelog import records
from celery_livelog.cli import livelog
from celery_livelog.settings import Settings

CHECKOUT = Path(__file__).parent.parent
DOCUMENTS = [CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md", *sorted((CHECKOUT / "docs").glob("*.md"))]


def text(name: str) -> str:
    return (CHECKOUT / name).read_text()


def test_every_setting_is_documented() -> None:
    """Each key that can be set has its row in the tables, once; no row is about a key that does not exist."""
    rows = re.findall(r"^\| `(livelog\w*)` \|", text("docs/settings.md"), re.MULTILINE)
    keys = [f"livelog_{key.name}" for key in dataclasses.fields(Settings) if key.metadata]
    assert sorted(rows) == sorted(["livelog", *keys])


def test_documented_defaults_are_the_defaults() -> None:
    """A default that the table shows as a Python value is the value that is used."""
    defaults = {f"livelog_{key.name}": key.default for key in dataclasses.fields(Settings)}
    for name, shown in re.findall(r"^\| `(livelog_\w+)` \| `([^`]+)` \|", text("docs/settings.md"), re.MULTILINE):
        assert ast.literal_eval(shown) == defaults[name], name


def test_every_record_is_documented() -> None:
    """Each type of record has its row; no row is about a type that does not exist."""
    section = text("docs/architecture.md").partition("## Records")[2].partition("## Rooms")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    types = [kind.__struct_config__.tag for kind in get_args(records.Record)]
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells[1:]))) == sorted(types)


def test_promises_are_held_by_tests_that_exist() -> None:
    """Each row of a promise names its tests, and each name is that of a test."""
    page = text("docs/reliability.md")
    promises = page.partition("## What is promised")[2].partition("## What is not promised")[0]
    rows = [row for row in re.findall(r"^\| .*", promises, re.MULTILINE) if "| held by |" not in row]
    assert len(rows) > 25
    assert all("::test_" in row for row in rows)
    for file, *names in (name.split("::") for name in re.findall(r"`(tests/\S+?::\S+?)`", page)):
        found: list[ast.stmt] = ast.parse(text(file)).body
        for name in names:
            (node,) = (node for node in found if getattr(node, "name", "") == name)
            found = getattr(node, "body", [])


def test_commands_in_the_readme_exist() -> None:
    """Every ``livelog`` command that the README shows is one."""
    shown = set(re.findall(r"celery -A \S+ livelog (\w+)", text("README.md")))
    assert shown
    assert shown <= set(livelog.list_commands(click.Context(livelog)))


def test_make_has_the_words_of_the_readme() -> None:
    """The README's two commands are targets of the Makefile."""
    targets = set(re.findall(r"^(\w+):", text("Makefile"), re.MULTILINE))
    assert {"demo", "test"} <= set(re.findall(r"(?:^|`)make (\w+)", text("README.md"), re.MULTILINE)) <= targets


def test_there_is_one_version() -> None:
    """The version of the distribution is that of the package."""
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    assert setup["metadata"]["version"] == celery_livelog.__version__


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """A link to a file of this project leads to a file of this project."""
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / link).exists(), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_in_documents_is_python(document: Path) -> None:
    """Each Python example compiles."""
    for number, example in enumerate(
        re.findall(r"^```python\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    ):
        compile(example, f"{document.name} example {number}", "exec")
