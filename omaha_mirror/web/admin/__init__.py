"""The admin listener: what operators see and do."""

from omaha_mirror.web.admin.answers import Route
from omaha_mirror.web.admin.app import AdminApp
from omaha_mirror.web.admin.routes import admin_routes

__all__ = ["AdminApp", "Route", "admin_routes"]
