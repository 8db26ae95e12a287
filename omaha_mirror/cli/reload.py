"""A changed config while the mirror runs: checked by `omaha-mirror config reload`, applied by the mirror on SIGHUP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import structlog

from omaha_mirror.aio.tasks import log_failure
from omaha_mirror.aio.workers import SLOW, STATE
from omaha_mirror.cli.options import DEFAULT_CONFIG
from omaha_mirror.config import Config, ConfigError, load
from omaha_mirror.config.changes import changes
from omaha_mirror.observability.health import Finding, State
from omaha_mirror.observability.telemetry import set_up_logging
from omaha_mirror.service import Service
from omaha_mirror.systemd import Notifier
from omaha_mirror.web.public_settings import PublicSettings

LOG = structlog.get_logger(__name__)
FINDING = "config"


def checked(path: Path | None) -> Config:
    """The config as a mirror would start with it, the files that it names included. Raises ConfigError, OSError."""
    config = load(path, os.environ)
    PublicSettings.of(config)
    return config


class Reload:
    """Applies what can be applied of a changed config; a broken one changes nothing.

    Args:
        service: the running mirror.
        settings: of its public listener.
        path: of the config file; None: the mirror runs without one.
        log_level: from the command line, which goes before the config.
        notifier: reports the start and end of a reload to systemd.
    """

    def __init__(
        self,
        service: Service,
        settings: PublicSettings,
        path: Path | None,
        log_level: str | None,
        notifier: Notifier,
    ) -> None:
        self._service = service
        self._settings = settings
        self._path = path
        self._log_level = log_level
        self._notifier = notifier
        self._broken = ""
        self._waiting: tuple[str, ...] = ()
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self) -> None:
        """Begin to read the config again, and apply it; one that waits for its turn is enough, as it reads what is there then."""
        if len(self._tasks) < 2:
            task = asyncio.create_task(self._reload())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(log_failure)

    async def _reload(self) -> None:
        async with self._turn:
            self._notifier.reloading()
            try:
                await self._apply()
            finally:
                self._notifier.ready()

    def findings(self) -> Iterator[Finding]:
        """Whether the file, as it was last read, is what is in force."""
        where = self._path or DEFAULT_CONFIG
        if self._broken:
            words = (
                f"{where} is broken, and what was read before is in force: {self._broken};"
                " mend it (omaha-mirror config check) and reload"
            )
            yield Finding(FINDING, State.DEGRADED, words)
        elif self._waiting:
            words = f"{', '.join(self._waiting)} in {where} wait for a restart"
            yield Finding(FINDING, State.OK, words)

    async def _apply(self) -> None:
        service = self._service
        try:
            config = await STATE.patiently(SLOW, load, self._path, os.environ)
            files = await STATE.patiently(SLOW, self._settings.read, config)
        except (ConfigError, OSError) as error:
            self._broken = str(error).partition("\n")[0]
            LOG.error("the config is broken, and all stays as it was", why=str(error))
            return
        found = changes(service.config, config)
        self._broken, self._waiting = "", found.restart
        self._settings.change(config, files)
        service.change(config)
        set_up_logging(service.config.log.format, self._log_level or service.config.log.level)
        LOG.info("config reloaded", applied=found.applied)
        if found.restart:
            LOG.warning("these keys of the config wait for a restart", keys=found.restart)
