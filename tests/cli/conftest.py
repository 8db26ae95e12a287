"""An update server, as the test's module publishes it."""

from collections.abc import Iterator

import pytest

from tests.support.threaded_upstream import ThreadedUpstream
from tests.support.upstream import Upstream


@pytest.fixture
def server(request: pytest.FixtureRequest, upstream: Upstream) -> Upstream:
    request.module.publish(upstream)
    return upstream


@pytest.fixture
def process_server(request: pytest.FixtureRequest) -> Iterator[ThreadedUpstream]:
    """For commands, which have an event loop of their own."""
    with ThreadedUpstream() as server:
        server.do(request.module.publish)
        yield server
