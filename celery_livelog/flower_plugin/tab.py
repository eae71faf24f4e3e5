"""The tab in Flower's navigation bar and the button on its task page, whatever markup that version of Flower has."""

from __future__ import annotations

import re
from typing import Any

from tornado.escape import to_unicode, xhtml_escape
from tornado.web import TemplateModule

_ITEM = re.compile(r"<li\b(?:(?!</li>).)*?</li>", re.DOTALL)


def shown(handler: Any) -> bool:
    """Whether the Celery app of this Flower has ``livelog`` on. Only a request knows: the tables have no app yet."""
    return bool(handler.application.capp.conf.get("livelog"))


def with_tab(base: type[TemplateModule]) -> type[TemplateModule]:
    """A template module that renders as `base` does, and adds the tab and the button.

    Flower draws its navigation bar by ``{% module Template("navbar.html") %}``, and Tornado lets an application
    replace that module, so no template of Flower's has to be copied or patched.
    """

    class LivelogTemplate(base):  # type: ignore[valid-type, misc]
        def render(self, path: str, **kwargs: Any) -> bytes | str:
            html: bytes = super().render(path, **kwargs)
            if path != "navbar.html" or not shown(self.handler):
                return html
            url_of = self.handler.reverse_url
            active = kwargs.get("active_tab") == "livelog"
            return add_tab(to_unicode(html), url_of("tasks"), url_of("livelog"), active)

        def html_body(self) -> str:
            body: str = super().html_body()
            if not shown(self.handler) or not _is_task_page(self.handler):
                return body
            root = xhtml_escape(self.handler.reverse_url("livelog"))
            return f'{body}<script src="{root}/static/flower_button.js" data-root="{root}"></script>'

    return LivelogTemplate


def add_tab(navbar: str, tasks_url: str, url: str, active: bool) -> str:
    """A navigation bar with our tab behind the one that leads to `tasks_url`, made of a copy of that one."""
    for item in _ITEM.finditer(navbar):
        if f'href="{tasks_url}"' in item[0]:
            tab = item[0].replace(f'href="{tasks_url}"', f'href="{url}"')
            tab = re.sub(r">\s*Tasks\s*<", ">Live logs<", tab)
            tab = re.sub(r'\s*aria-current="page"', "", tab)
            tab = re.sub(r"nav-link(\s+active)?", "nav-link active" if active else "nav-link", tab, count=1)
            if active:
                tab = tab.replace("<a ", '<a aria-current="page" ', 1)
            return f"{navbar[: item.end()]}\n{tab}{navbar[item.end() :]}"
    return navbar


def _is_task_page(handler: Any) -> bool:
    from flower.views.tasks import TaskView

    return isinstance(handler, TaskView)
