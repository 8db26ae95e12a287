"""omaha-mirror: a site-local caching mirror for Flatcar / Container Linux updates."""

__version__ = "0.1.0"
