"""The admin listener: what operators see and do."""

from omaha_mirror.web.admin.answers import Route
from omaha_mirror.web.admin.app import AdminApp, admin_routes

__all__ = ["AdminApp", "Route", "admin_routes"]
