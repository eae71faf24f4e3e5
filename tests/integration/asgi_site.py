"""A Starlette site with the logs mounted in it: ``uvicorn tests.integration.asgi_site:application``.

A cookie says who somebody is, and the task with that name is what that user may see.
"""

from __future__ import annotations

import os
from http.cookies import SimpleCookie
from typing import Any

from celery import Celery
from starlette.applications import Starlette
from starlette.routing import Mount

from celery_livelog import asgi
from celery_livelog.permissions import Scope, Viewer

ORIGIN = "https://app.example"


async def viewer_of(scope: Any) -> Viewer | None:
    """Whoever the cookie says."""
    cookies = SimpleCookie(dict(scope["headers"]).get(b"cookie", b"").decode("latin-1"))
    if "user" not in cookies:
        return None
    name = cookies["user"].value
    return Viewer(via="asgi", name=name, seen=(Scope(task_id=name),))


site = Celery("site", set_as_current=False)
site.conf.update(
    livelog=True,
    livelog_redis_url=os.environ["LIVELOG_REDIS_URL"],
    livelog_dir=os.environ["LIVELOG_DIR"],
    livelog_secret_key=os.environ["LIVELOG_SECRET_KEY"],
)
application = Starlette(
    routes=[Mount("/sites/logs", asgi.app(site, viewer_of=viewer_of, origins=[ORIGIN]))],
)
