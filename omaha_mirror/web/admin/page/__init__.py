"""The status page: `/`, `/machines`, a page for each machine, the parts that renew themselves, and the forms.

Its handlers and their templates take 5 MB, and few processes are ever looked at: they are loaded when somebody does.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from omaha_mirror.aio.workers import WORK
from omaha_mirror.web.admin.answers import CHANGE, READ, Handler, Route

if TYPE_CHECKING:
    from omaha_mirror.service import Service

__all__ = ["Page"]
SHOWN = {
    "overview": "/",
    "machines": "/machines",
    "machine": "/machines/(?P<name>[^/]+)",
    "fragment": "/fragments/(?P<name>[a-z]+)",
    "static": "/static/(?P<name>[a-z.]+)",
}
FORMS = {"track": "/actions/track", "sync": "/actions/sync"}


class Page:
    """Shows a service to people."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loading = asyncio.Lock()
        self._handlers: dict[str, Handler] = {}

    def routes(self) -> tuple[Route, ...]:
        """What it answers."""
        shown = (Route(READ, re.compile(path), self._handler(name)) for name, path in SHOWN.items())
        forms = (
            Route(CHANGE, re.compile(path), self._handler(name), form=True)
            for name, path in FORMS.items()
        )
        return (*shown, *forms)

    def _handler(self, name: str) -> Handler:
        return partial(self._answer, name)

    async def _answer(
        self, handler: str, request: web.BaseRequest, **arguments: object
    ) -> web.StreamResponse:
        async with self._loading:
            self._handlers = self._handlers or await WORK.call(_load, self._service)
        return await self._handlers[handler](request, **arguments)


def _load(service: Service) -> dict[str, Handler]:
    from omaha_mirror.web.admin.page.api import PageApi  # noqa: PLC0415 (see above)

    return PageApi(service).handlers()
