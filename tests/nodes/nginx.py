"""An nginx on a free port of the loopback, in the foreground, with everything that it writes in its directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.nodes.process import LocalProcess, free_port

_CONFIGURATION = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location = /up {{ return 204; }}
        {locations}
    }}
}}
"""


class Nginx(LocalProcess):
    """The server at `url`. Skips the test where nginx is not installed."""

    def __init__(self, directory: Path, locations: str) -> None:
        """Describe a server with these locations."""
        nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        if nginx is None:
            pytest.skip("nginx is missing: apt-get install nginx-light")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        configuration = directory / "nginx.conf"
        configuration.write_text(_CONFIGURATION.format(directory=directory, port=self.port, locations=locations))
        super().__init__("nginx", [nginx, "-p", directory, "-c", configuration], directory)
