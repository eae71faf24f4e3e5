"""Pages of streams, read once for all who read the same at about the same time, such as after a restart."""

from __future__ import annotations

from collections import OrderedDict

from celery_livelog.asking import Asking
from celery_livelog.reader.portions import Portion, portions
from celery_livelog.stores.stream_reader import StreamReader

#: Entries of a page.
_READ = 1000
#: Bytes of pages that are kept, about.
_KEPT = 8 * 1024 * 1024

Page = list[Portion]


class Pages:
    """Reads streams on from given places. A page that is full stays as it is, and is kept for a while."""

    def __init__(self, stream: StreamReader) -> None:
        self._stream = stream
        self._asking = Asking[Page]()
        self._kept: OrderedDict[tuple[str, str], Page] = OrderedDict()
        self._size = 0

    async def after(self, task_id: str, entry_id: str) -> Page:
        """The next entries of a task's stream after an id ("" for the first); empty when there are no more.

        :raises RedisError: when Redis does not answer.
        """
        place = (task_id, entry_id)
        page = self._kept.get(place)
        if page is not None:
            self._kept.move_to_end(place)
            return page
        return await self._asking.ask(place, lambda: self._read(task_id, entry_id))

    async def close(self) -> None:
        """Read no more."""
        await self._asking.close()

    async def _read(self, task_id: str, entry_id: str) -> Page:
        entries = await self._stream.after(task_id, entry_id, _READ)
        page = list(portions(entries))
        if len(entries) == _READ:
            self._keep((task_id, entry_id), page)
        return page

    def _keep(self, place: tuple[str, str], page: Page) -> None:
        self._size += _size(page) - _size(self._kept.get(place, []))
        self._kept[place] = page
        while self._size > _KEPT and len(self._kept) > 1:
            self._size -= _size(self._kept.popitem(last=False)[1])


def _size(page: Page) -> int:
    return sum(portion.size for portion in page)
