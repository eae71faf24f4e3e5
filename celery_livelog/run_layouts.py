"""Where run directories are: templates such as ``/data/logs/{account}/{site}/{run_id}``. Pure.

Nothing that a run says leads out of the root, which is what comes before the first placeholder: values become names of
files as `safe_name` makes them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from string import Formatter

from celery_livelog.names import safe_name
from celery_livelog.runs import Run

#: The ready layouts: what comes below the root that is given with their name, and the name of a run's log.
_READY = {
    "automation": ("{account}/{site}/{run_id}", "automation_run.log"),
    "compile": ("{user_id}/projects/project_{project_id}/runs/run_{timestamp}", "run.log"),
}
_LOG = "run.log"
#: What every run has; a run's own fields come to it.
_KNOWN = ("account", "site", "run_id", "name", "date", "timestamp")
#: What stands for a value that is empty; no value that is not can have this name.
_EMPTY = "-"
#: Bytes of a path component; file systems take 255, and one that is taken gets a number.
_LONGEST = 200
_EXPECTED = "a template such as /data/logs/{account}/{site}/{run_id}, or automation:ROOT or compile:ROOT"


@dataclass(frozen=True, slots=True)
class RunLayout:
    """One template, taken apart.

    :param text: the template as it was given, but absolute.
    :param root: the directory before the first placeholder.
    :param parts: the templates of the path components below it.
    :param log: the name of a run's log.
    """

    text: str
    root: Path
    parts: tuple[str, ...]
    log: str = _LOG

    @classmethod
    def parse(cls, text: str) -> RunLayout:
        """Read a template.

        :raises ValueError: that says what was expected.
        """
        name, colon, root = text.partition(":")
        below, log = _READY.get(name, ("", _LOG)) if colon else ("", _LOG)
        if below:
            template = _absolute(root)
            return cls(f"{name}:{template}", *_taken_apart(f"{template}/{below}"), log)
        template = _absolute(text)
        return cls(template, *_taken_apart(template), log)

    def missing(self, run: Run) -> list[str]:
        """The placeholders that the run has no value for."""
        values = _values(run)
        return [field for part in self.parts for field in _fields(part) if field not in values]

    def place(self, run: Run) -> tuple[str, ...]:
        """The path components of a run's directory below the root.

        :raises KeyError: when the run has no value for a placeholder; see `missing`.
        """
        names = {field: safe_name(value) if value else _EMPTY for field, value in _values(run).items()}
        filled = (part.format_map(names) for part in self.parts)
        return tuple(part if len(part.encode()) <= _LONGEST else safe_name(part) for part in filled)


def choose(layouts: Iterable[RunLayout], run: Run) -> RunLayout | None:
    """The first layout that the run has all values for; None when there is no such one."""
    return next((layout for layout in layouts if not layout.missing(run)), None)


def why_none(layout: RunLayout, run: Run) -> str:
    """Why a run has no directory in a layout, in one line."""
    missing = layout.missing(run)[0]
    known = [*_KNOWN, *run.fields]
    near = difflib.get_close_matches(missing, known, n=1)
    guess = f"; did you mean {{{near[0]}}}?" if near else ""
    return (
        f"{layout.text} has {{{missing}}}, which run {run.run_id} does not say; expected "
        f"{', '.join(_KNOWN)} or a field of run(…): {', '.join(run.fields) or 'it has none'}{guess}"
    )


def _values(run: Run) -> Mapping[str, str]:
    try:
        started = datetime.fromisoformat(run.started)
    except ValueError:  # of a message that others have made
        date = timestamp = ""
    else:
        date, timestamp = f"{started:%Y-%m-%d}", f"{started:%Y%m%d_%H%M%S}"
    own = {"account": run.account, "site": run.site, "run_id": run.run_id, "name": run.name}
    return {"date": date, "timestamp": timestamp, **run.fields, **own}


def _absolute(template: str) -> str:
    if not template:
        raise ValueError(_EXPECTED)
    here = str(Path.cwd()).replace("{", "{{").replace("}", "}}")
    return str(Path(here, template))


def _taken_apart(template: str) -> tuple[Path, tuple[str, ...]]:
    if "\0" in template:
        raise ValueError(_EXPECTED)
    components = [component for component in template.split("/") if component]
    first = next((at for at, component in enumerate(components) if _fields(component)), None)
    if first is None:
        raise ValueError(f"{_EXPECTED}; it has no placeholder, so that all runs would share one directory")
    if ".." in components[first:]:
        raise ValueError(f"{_EXPECTED}, without .. after the first placeholder")
    root = "/" + "/".join(component.format() for component in components[:first])
    return Path(root), tuple(components[first:])


def _fields(component: str) -> list[str]:
    try:
        parsed = [(field, form, conversion) for _, field, form, conversion in Formatter().parse(component)]
    except ValueError:  # a brace alone
        parsed = [("", "", None)]
    found = [(field, form, conversion) for field, form, conversion in parsed if field is not None]
    if any(not field.isidentifier() or form or conversion for field, form, conversion in found):
        raise ValueError(f"{_EXPECTED}; between braces stands one of {', '.join(_KNOWN)} or a field of run(…)")
    return [field for field, _, _ in found]
