"""A certificate that no authority has signed, for servers of the tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def certificate_for(name: str, directory: Path) -> tuple[Path, Path]:
    """A certificate and its key.

    :param name: what it is for, such as ``DNS:localhost`` or ``IP:127.0.0.1``.
    """
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: apt-get install openssl")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=a-test", "-addext", f"subjectAltName={name}", "-days", "2"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key
