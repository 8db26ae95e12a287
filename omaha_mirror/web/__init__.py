"""The HTTP listeners. Nothing else imports `aiohttp.web`."""
