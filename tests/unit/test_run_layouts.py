"""Templates of run directories: both ready trees come out exactly, and no value leads out of the root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from celery_livelog.errors import SettingsError
from celery_livelog.run_layouts import RunLayout, choose, why_none
from celery_livelog.runs import Run
from celery_livelog.settings import Settings

AT = "2024-06-20T16:30:55.000000+00:00"
RUN = Run(
    run_id="run_20240620_163055_3f2a90",
    account="a1",
    site="s7",
    fields={"user_id": "7", "project_id": "42"},
    started=AT,
)


def path(template: str, run: Run = RUN) -> str:
    layout = RunLayout.parse(template)
    return str(layout.root.joinpath(*layout.place(run)))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("automation:/data/logs", "/data/logs/a1/s7/run_20240620_163055_3f2a90"),
        ("compile:/srv/users", "/srv/users/7/projects/project_42/runs/run_20240620_163055"),
        ("/data/{account}-{site}/x/{run_id}/", "/data/a1-s7/x/run_20240620_163055_3f2a90"),
        ("/data/{{x}}/{date}{name}", "/data/{x}/2024-06-20-"),
        ("/{run_id}", "/run_20240620_163055_3f2a90"),
    ],
)
def test_where_a_run_is(template: str, expected: str) -> None:
    """Each placeholder is replaced; the rest stays as it is."""
    assert path(template) == expected


def test_a_relative_root_is_that_of_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made absolute where the settings are read, whatever the directory is called."""
    odd = tmp_path / "{odd}"
    odd.mkdir()
    monkeypatch.chdir(odd)
    settings = Settings.from_conf({"livelog_run_dir": ["compile:platform_server/media/users", "logs/{run_id}"]})
    monkeypatch.chdir("/")
    compiled, plain = settings.run_dir
    assert path(compiled) == f"{odd}/platform_server/media/users/7/projects/project_42/runs/run_20240620_163055"
    assert path(plain) == f"{odd}/logs/{RUN.run_id}"


@pytest.mark.parametrize(
    "template",
    ["", "/a", "automation:", "automations:/a", "/a/{", "/a/}", "/a/{}", "/a/{0}", "/a/{run_id!r}", "/a/{run_id:>9}",
     "/a/{run_id.x}", "/a/{run_id}/../b", "/a\0/{run_id}", 5, ["/a/{run_id}", "/a"]],
)  # fmt: skip
def test_what_is_no_template_is_an_error(template: object) -> None:
    """At the start, in one line that names the setting."""
    with pytest.raises(SettingsError, match=r"^livelog_run_dir is .*; expected .*$"):
        Settings.from_conf({"livelog_run_dir": template})


def test_a_placeholder_that_a_run_has_no_value_for() -> None:
    """It is named with those that there are and the nearest of them."""
    layout = RunLayout.parse("/data/{acount}/{run_id}")
    assert layout.missing(RUN) == ["acount"]
    said = why_none(layout, RUN)
    assert "did you mean {account}?" in said
    assert all(name in said for name in ("{acount}", "site", "timestamp", "user_id", "project_id", RUN.run_id))


def test_a_run_goes_to_the_first_template_that_it_fits() -> None:
    """A run without the fields of one goes to the next; a run that fits none has none."""
    layouts = [RunLayout.parse("compile:/users"), RunLayout.parse("automation:/auto")]
    plain = Run(run_id="r", account="a1", started=AT)
    assert choose(layouts, RUN) is layouts[0]
    assert choose(layouts, plain) is layouts[1]
    assert layouts[1].place(plain) == ("a1", "-", "r")
    assert choose(layouts[:1], plain) is None


@pytest.mark.parametrize("started", ["", "yesterday", "9" * 200])
def test_a_run_of_an_odd_message(started: str) -> None:
    """Whatever a message says of when it began, the run has a place."""
    assert RunLayout.parse("/data/{timestamp}-{date}").place(Run(run_id="r", started=started)) == ("---",)


ODD = ["", ".", "..", "../..", "/etc/passwd", "a/b", "a\0b", "a\nb", "\x1b[2J", "A1", "a1", "-", "_", "~", "con", "é",
       "e\u0301", "\ud800", " ", "a ", ".livelog", "stages", "a" * 128, "a" * 129, "x" * 10_000, "$HOME", "*",
       "_" + "0" * 64]  # fmt: skip
VALUES = st.sampled_from(ODD) | st.text()
TEMPLATES = st.sampled_from(
    ["/root/{account}", "/root/{account}/{site}/{run_id}", "/root/x{account}{site}", "/root/{user_id}/runs/r_{run_id}"]
)


@given(TEMPLATES, VALUES, VALUES, VALUES, VALUES)
def test_no_value_leads_out_of_the_root(template: str, account: str, site: str, run_id: str, user: str) -> None:
    """Each component is one name that every file system takes, and is no other directory."""
    layout = RunLayout.parse(template)
    place = layout.place(Run(run_id=run_id, account=account, site=site, fields={"user_id": user}, started=AT))
    assert layout.root == Path("/root")
    assert len(place) == template.count("/") - 1
    for component in place:
        assert component not in ("", ".", "..", ".livelog")
        assert len(os.fsencode(component)) <= 200
        assert component.isprintable()
        assert "/" not in component


@example(["A1", "a1", "-", "", "_", "a1 ", "a/1"])
@given(st.lists(VALUES, min_size=2, max_size=5, unique=True))
def test_different_values_are_different_directories(values: list[str]) -> None:
    """Also where the file system does not tell upper and lower case apart."""
    layout = RunLayout.parse("/root/{account}/{run_id}")
    places = [layout.place(Run(run_id=value, account="a", started=AT))[1].casefold() for value in values]
    assert len(set(places)) == len(places)
