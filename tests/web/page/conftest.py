"""The status page of a mirror in this process, and the same beyond loopback."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from omaha_mirror.config import Address
from omaha_mirror.web.admin.app import AdminApp, admin_routes
from omaha_mirror.web.server import Listener
from tests.fleet.scene import recorded
from tests.support.mirror import Mirror, mirror_in_process
from tests.support.upstream import Upstream
from tests.web.page.scene import TOKEN, Site


@pytest.fixture
async def mirror(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Mirror]:
    async with mirror_in_process(tmp_path, upstream.origin) as mirror:
        await recorded(mirror)
        yield mirror


@pytest.fixture(params=["127.0.0.1:8001"])
async def site(request: pytest.FixtureRequest, mirror: Mirror) -> AsyncIterator[Site]:
    """Listens on loopback, as if on the address that is the parameter."""
    configured = Address.parse(request.param)
    listener = Listener(AdminApp(admin_routes(mirror.service), TOKEN, [configured]))
    [address] = await listener.start([Address("127.0.0.1", 0)])
    yield Site(mirror, address)
    await listener.stop()
