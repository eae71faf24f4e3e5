"""An S3 bucket on a free port of the loopback that lies, waits or refuses as a test says."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

_PREFIX = "/bucket/"
_AT = "2026-01-02T03:04:05.000Z"


class Bucket:
    """The bucket; `url` names it for livelog, `environment` are the variables that lead there."""

    url = "s3://bucket/logs"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        #: What becomes of an object that is put; None to drop it. It is acknowledged all the same.
        self.lie: Callable[[bytes], bytes | None] = lambda data: data
        #: Puts wait as long as this is not set.
        self.prompt = threading.Event()
        self.prompt.set()
        #: The status that every request gets, if not 0.
        self.refuse = 0
        #: How many puts there were, and how many requests were refused.
        self.puts = self.refused = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"bucket": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT": f"http://127.0.0.1:{self._server.server_address[1]}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "a-key",
            "AWS_SECRET_ACCESS_KEY": os.urandom(8).hex(),
            "AWS_REGION": "eu-central-1",
        }

    def close(self) -> None:
        """Stop answering."""
        self.prompt.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    bucket: Bucket
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        data = self._body()
        self.bucket.puts += 1
        self.bucket.prompt.wait()
        stored = self.bucket.lie(data)
        if stored is not None and not self.bucket.refuse:
            self.bucket.objects[self._key] = stored
        self._answer(200, b"", ETag=_etag(data))

    def do_GET(self) -> None:
        if not self._key:
            self._list()
            return
        data = self.bucket.objects.get(self._key)
        if data is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        wanted = self.headers.get("Range")
        if wanted is None:
            self._answer(200, data, ETag=_etag(data))
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1]
        said = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        self._answer(206 if part else 416, part, ETag=_etag(data), Content_Range=said)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        """Delete several objects."""
        keys = [
            element.text or "" for element in ElementTree.fromstring(self._body()).iter() if element.tag.endswith("Key")
        ]
        for key in keys:
            self.bucket.objects.pop(key, None)
        deleted = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix(_PREFIX.rstrip("/")).removeprefix("/")

    def _list(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        contents, folders = [], set()
        for key, data in sorted(self.bucket.objects.items()):
            rest = key.removeprefix(prefix)
            if not key.startswith(prefix):
                continue
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
                continue
            contents.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{_AT}</LastModified>"
                f"<ETag>{_etag(data)}</ETag><Size>{len(data)}</Size></Contents>"
            )
        common = [f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders)]
        inside = "".join((*contents, *common))
        self._answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{inside}</ListBucketResult>".encode())

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        if self.bucket.refuse:
            self.bucket.refused += 1
            status, body, headers = self.bucket.refuse, b"<Error><Code>Refused</Code></Error>", {}
        self.send_response(status)
        for name, value in {"Last_Modified": "Fri, 02 Jan 2026 03:04:05 GMT", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
