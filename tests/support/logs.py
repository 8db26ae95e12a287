"""What the mirror logs, as a test sees it."""

from typing import Any, TypeAlias

Logs: TypeAlias = list[dict[str, Any]]
"""The fixture `logs`: the fields of each line, `event`, `log_level` and the text of a traceback as `exception` among them."""
