"""The site's rule as it is named in the settings: what is found there, and what is said when nothing is."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from celery_livelog import errors
from celery_livelog.access.rule import Rule, load
from celery_livelog.attempts import Attempt
from celery_livelog.cli import livelog
from celery_livelog.errors import SettingsError
from celery_livelog.permissions import ARCHIVE, EVERYTHING, Viewer
from celery_livelog.reader import Reader
from celery_livelog.runs import RunView
from celery_livelog.settings import Settings

VIEWER = Viewer(via="test", name="bob", seen=EVERYTHING)
TASK = Attempt(attempt="00aa11bb", task_id="a-task", name="proj.build")

MODULE = """
import asyncio
number = 7
async def waits(viewer, action, task): return True
def may(viewer, action, task): return (viewer.name, action, task.name) == ("bob", "archive", "proj.build")
class Rules:
    def __call__(self, viewer, action, task): return action == "archive"
of_an_object = Rules()
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the current directory, which is not on the path."""
    name = f"site_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / "broken_site.py").write_text("raise LookupError('no\\nsuch thing')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    return name


def allowed(path: str, **options: Any) -> list[bool]:
    rule = Rule(path)
    try:
        return asyncio.run(rule.allows(VIEWER, (ARCHIVE,), [[TASK], [TASK, TASK]], **options))
    finally:
        rule.close()


@pytest.mark.parametrize("form", ["{}.may", "{}:may", "{}.of_an_object"])
def test_how_a_rule_is_named(site: str, form: str) -> None:
    """With a dot or a colon before the function, and found beside the project, as ``-A proj`` is."""
    assert allowed(form.format(site)) == [True, True]


@pytest.mark.parametrize(
    ("viewer", "action", "name", "said"),
    [
        (Viewer(via="cli", name="root"), "download", "billing.charge", True),
        (Viewer(via="flower", name="boss@example.com"), "download", "billing.charge", True),
        (Viewer(via="flower", name="bob"), "live", "reports.daily", True),
        (Viewer(via="flower", name="bob"), "download", "reports.daily", False),
        (Viewer(via="token", name="bob"), "archive", "billing.charge", False),
    ],
)
def test_the_rule_of_the_documents(viewer: Viewer, action: str, name: str, said: bool) -> None:
    """The example in docs/permissions.md says what one takes it to say, for tasks as for runs."""
    page = (Path(__file__).parents[2] / "docs" / "permissions.md").read_text()
    example = page.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(example, names)
    for thing in (Attempt(attempt="00aa11bb", task_id="a-task", name=name), RunView(run_id="a-run", name=name)):
        assert names["may"](viewer, action, thing) is said


def test_of_what_is_not_there_nothing_is_allowed(site: str) -> None:
    """It is asked, and its answer is dropped."""
    assert allowed(f"{site}.may", exist=False) == [False, False]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no_such_module.may", "which cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("{}.missing", "which cannot be imported: AttributeError: module"),
        ("broken_site.may", "which cannot be imported: LookupError: no such thing"),
        ("{}.number", "expected a plain function may(viewer, action, task)"),
        ("{}.waits", "expected a plain function may(viewer, action, task)"),
    ],
)
def test_what_is_no_rule(site: str, tmp_path: Path, path: str, said: str) -> None:
    """It is said in one line, no reader is made, and a command ends."""
    path = path.format(site)
    with pytest.raises(SettingsError) as error:
        load(path)
    assert str(error.value).startswith(f"livelog_permission is {path!r}")
    assert said in str(error.value)
    conf = {"livelog_dir": str(tmp_path), "livelog_permission": path}
    with pytest.raises(SettingsError):
        Reader(Settings.from_conf(conf))
    context = SimpleNamespace(app=SimpleNamespace(conf=conf), no_color=True)
    result = CliRunner().invoke(livelog, ["ls"], obj=context)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert said in result.stderr


@pytest.mark.parametrize(
    "value", ["may", "", "proj.", ".may", "proj may.x", "proj.may()", "a:b:c", b"proj.may", 7, True]
)
def test_what_is_no_dotted_path(value: Any) -> None:
    """Is told when the settings are read, also by workers, which never ask the rule."""
    with pytest.raises(
        SettingsError, match=r"expected the dotted path of a function, such as 'proj\.permissions\.may'"
    ):
        Settings.from_conf({"livelog_permission": value})


def test_what_is_wrong_is_said_once(
    site: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why something is not shown: of a failure its reason, of an answer that is none its type."""
    monkeypatch.setattr(errors, "_last_said", {})
    Path("wrong_site.py").write_text("def gives(*_): return 'yes'\ndef fails(*_): raise KeyError('no such account')")
    for path in ("wrong_site.gives", "wrong_site.fails"):
        assert allowed(path) == [False, False]
        assert allowed(path, exist=False) == [False, False]
    said = capfd.readouterr().err.splitlines()
    assert said == [
        "celery-livelog: livelog_permission gave a value of type str, which is a no; expected True or False",
        "celery-livelog: livelog_permission failed, which is a no: KeyError: 'no such account'",
    ]
