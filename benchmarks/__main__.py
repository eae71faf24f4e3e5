"""Runs all benchmarks, one after the other: ``python -m benchmarks``."""

from __future__ import annotations

import subprocess
import sys

_NAMES = ("cost", "stages", "throughput", "latency", "burst", "idle", "outage", "viewers", "hostile", "programs")


def main() -> None:
    """Run each in a process of its own; the exit code says whether all came to their end."""
    codes = [subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode for name in _NAMES]
    sys.exit(max(codes))


if __name__ == "__main__":
    main()
