"""All that the admin listener answers."""

from __future__ import annotations

from omaha_mirror.service import Service
from omaha_mirror.web.admin.answers import Route
from omaha_mirror.web.admin.cache_api import CacheApi
from omaha_mirror.web.admin.health_api import HealthApi
from omaha_mirror.web.admin.upstream_api import UpstreamApi


def admin_routes(service: Service) -> tuple[Route, ...]:
    """The routes over a service."""
    return (
        *HealthApi(service.examine, service.metrics).routes(),
        *CacheApi(service.cache, service.upkeep).routes(),
        *UpstreamApi(service.steward).routes(),
    )
