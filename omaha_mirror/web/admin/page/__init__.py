"""The status page: what the mirror knows, for people."""

from omaha_mirror.web.admin.page.api import PageApi

__all__ = ["PageApi"]
