"""All that the admin listener answers."""

from __future__ import annotations

from omaha_mirror.service import Service
from omaha_mirror.web.admin.answers import Route
from omaha_mirror.web.admin.bundle_api import BundleApi
from omaha_mirror.web.admin.cache_api import CacheApi
from omaha_mirror.web.admin.explain_api import ExplainApi
from omaha_mirror.web.admin.fleet_api import FleetApi
from omaha_mirror.web.admin.health_api import HealthApi
from omaha_mirror.web.admin.openapi import OpenApi
from omaha_mirror.web.admin.overview_api import OverviewApi
from omaha_mirror.web.admin.page import PageApi
from omaha_mirror.web.admin.tracks_api import TracksApi
from omaha_mirror.web.admin.upstream_api import UpstreamApi


def admin_routes(service: Service) -> tuple[Route, ...]:
    """The routes over a service."""
    api = (
        *HealthApi(service.examine, service.metrics).routes(),
        *OverviewApi(service).routes(),
        *TracksApi(service).routes(),
        *UpstreamApi(service.warm_up).routes(),
        *CacheApi(service.cache, service.verifier).routes(),
        *BundleApi(service.bundles).routes(),
        *FleetApi(service).routes(),
        *ExplainApi(service).routes(),
    )
    return (*api, *OpenApi(api).routes(), *PageApi(service).routes())
