"""Two tasks that do real work and say so in every way: print, logging, stderr, a progress bar, a subprocess, stages."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from celery.utils.log import get_task_logger
from tqdm import tqdm

from celery_livelog import stage
from example_project.celery_app import CHECKOUT, app

LONG_FUNCTION = 200  # lines

logger = get_task_logger(__name__)


@app.task
def build_wheel() -> str:
    """Build this very package into a wheel, without a network, and look at what is in it."""
    with tempfile.TemporaryDirectory(prefix="build-wheel-") as scratch:
        source, output = Path(scratch, "source"), Path(scratch, "output")
        with stage("Copy"):
            _copy_sources(source)
        with stage("Build"):
            pip = [sys.executable, "-m", "pip", "--verbose", "--disable-pip-version-check", "wheel"]
            offline = ["--no-deps", "--no-build-isolation", "--no-index"]
            subprocess.run([*pip, *offline, "--wheel-dir", str(output), str(source)], check=True)
        with stage("Check"):
            return _check(*output.glob("*.whl"))


@app.task
def survey_stdlib() -> dict[str, int]:
    """Read the Python standard library's sources and report what they are made of."""
    with stage("Find"):
        root = Path(sysconfig.get_path("stdlib"))
        sources = sorted(_library_sources(root))
        print(f"{len(sources)} files in {root}")
    with stage("Parse", pending=len(sources)) as parsing:
        counts: Counter[str] = Counter()
        for path in tqdm(sources, desc="Parse", unit="file"):
            counts += _survey(path, path.relative_to(root))
            parsing.advance(1, message=str(path.relative_to(root)))
        parsing.result(dict(counts))
    with stage("Import"):
        logger.info("How long the imports of a small web client take")
        subprocess.run([sys.executable, "-X", "importtime", "-c", "import asyncio, http.client, json, ssl"], check=True)
    with stage("Report"):
        for what, count in counts.most_common():
            print(f"{what:<20} {count:>9,}")
    return dict(counts)


def _copy_sources(target: Path) -> None:
    """Copy what the wheel is built from, so that the build leaves nothing in the checkout."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "celery_livelog", target / "celery_livelog", ignore=ignore)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, target)
    print(f"{sum(path.is_file() for path in target.rglob('*'))} files to build from")


def _check(wheel: Path) -> str:
    """List a wheel's files; a damaged one raises."""
    with zipfile.ZipFile(wheel) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{wheel.name}: {damaged} is damaged")
        for file in archive.infolist():
            print(f"{file.file_size:>9,}  {file.filename}")
    logger.info("%s has %d bytes", wheel.name, wheel.stat().st_size)
    return wheel.name


def _library_sources(root: Path) -> Iterator[Path]:
    """The library's own modules: neither its tests nor what was installed beside it."""
    for path in root.rglob("*.py"):
        if not {"site-packages", "dist-packages", "test", "tests", "idle_test"} & set(path.relative_to(root).parts):
            yield path


def _survey(path: Path, name: Path) -> Counter[str]:
    """Count what one module is made of; mention what stands out."""
    source = path.read_bytes()
    tree = ast.parse(source, str(name))
    if ast.get_docstring(tree) is None and tree.body:
        logger.warning("%s has no docstring", name)
    counts = Counter(modules=1, lines=source.count(b"\n"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            counts["functions"] += 1
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONG_FUNCTION:
                print(f"{name}:{node.lineno}: {node.name} is {length} lines long", file=sys.stderr)
        elif isinstance(node, ast.ClassDef):
            counts["classes"] += 1
        elif isinstance(node, ast.Import | ast.ImportFrom):
            counts["imports"] += 1
    return counts
