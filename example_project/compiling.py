"""A pipeline that compiles a project's sources; the directories of its runs are named after user and project."""

from __future__ import annotations

import ast
import marshal
import tempfile
import zipfile
from pathlib import Path
from threading import Event
from types import CodeType

from celery.utils.log import get_task_logger

from celery_livelog import run, stage
from example_project.celery_app import CHECKOUT, app

logger = get_task_logger(__name__)


@app.task
def compile_project(user_id: int, project_id: int, pace: float = 0.02, **fields: str) -> int:
    """Compile this package's own sources; give the bytes of the result.

    :param pace: seconds between two files, so that there is something to watch.
    :param fields: what else the run is known by.
    """
    with run(name="compile", user_id=user_id, project_id=project_id, **fields):
        sources = collect(CHECKOUT / "celery_livelog")
        trees = parse(sources, pace)
        return package(translate(trees, pace))


@stage("Collect")
def collect(root: Path) -> list[Path]:
    """Find the sources."""
    sources = sorted(root.rglob("*.py"))
    print(f"{len(sources)} files in {root.name}")
    return sources


def parse(sources: list[Path], pace: float) -> dict[str, ast.Module]:
    """Read the sources; a wrong one raises."""
    trees = {}
    with stage("Parse", pending=len(sources)) as parsing:
        for path in sources:
            name = str(path.relative_to(CHECKOUT))
            trees[name] = ast.parse(path.read_bytes(), name)
            parsing.advance(message=name)
            Event().wait(pace)
        parsing.result({"nodes": sum(1 for tree in trees.values() for _ in ast.walk(tree))})
    return trees


def translate(trees: dict[str, ast.Module], pace: float) -> dict[str, CodeType]:
    """Make byte code of them."""
    codes = {}
    with stage("Compile", pending=len(trees)) as compiling:
        for name, tree in trees.items():
            codes[name] = compile(tree, name, "exec", dont_inherit=True)
            if not tree.body:
                logger.warning("%s is empty", name)
            compiling.advance(message=name)
            Event().wait(pace)
        compiling.result({"modules": len(codes)})
    return codes


def package(codes: dict[str, CodeType]) -> int:
    """Pack the byte code; give how much it is."""
    with stage("Package") as packing, tempfile.TemporaryFile() as output:
        with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, code in codes.items():
                archive.writestr(f"{name}c", marshal.dumps(code))
        size = output.tell()
        packing.result({"bytes": size})
        print(f"{size:,} bytes")
    return size
