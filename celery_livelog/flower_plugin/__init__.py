"""The "Live logs" tab of a stock Flower.

Every `celery` command imports this, so it loads nothing: neither Flower, nor what the tab needs when Flower starts.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

from celery_livelog.errors import complain

#: The module whose tables hold all that Flower serves; `flower.app` and `flower.command` share these very objects.
_TABLES = "flower.urls"


def hook() -> None:
    """Put the tab into Flower: now if Flower is loaded, else as soon as something loads it.

    Celery loads its commands' entry points in any order, so either can come first.
    """
    if _TABLES in sys.modules:
        _install_or_complain()
    elif not any(isinstance(finder, _TablesImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TablesImport())


def install() -> None:
    """Put the routes and the tab into the tables of a loaded Flower, in place and once.

    :raises ImportError: when Flower is not installed.
    """
    from celery_livelog.flower_plugin import tables

    tables.extend()


def _install_or_complain() -> None:
    try:
        install()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the tab, all commands must go on
        complain("no Live logs tab in this Flower", error)


class _TablesImport(MetaPathFinder):
    """Sees the import of Flower's tables, once, and adds to them when they are filled."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _TABLES:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenInstall(spec.loader)
        return spec


class _ThenInstall(Loader):
    """A module's own loader, and our installation when it is done."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _install_or_complain()
