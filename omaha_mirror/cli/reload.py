"""A changed config while the mirror runs: checked by `omaha-mirror config reload`, applied by the mirror on SIGHUP."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from omaha_mirror.aio.tasks import keep_running, stop
from omaha_mirror.aio.workers import SLOW, STATE
from omaha_mirror.cli.options import DEFAULT_CONFIG
from omaha_mirror.config import Config, ConfigError, load
from omaha_mirror.config.changes import changes
from omaha_mirror.observability.health import Finding, State
from omaha_mirror.observability.telemetry import set_up_logging
from omaha_mirror.service import Service
from omaha_mirror.systemd import Notifier
from omaha_mirror.web.public_settings import PublicFiles, PublicSettings

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
        self._asked = asyncio.Event()

    @asynccontextmanager
    async def at(self, number: signal.Signals) -> AsyncIterator[None]:
        """Reload at each signal while the block runs; signals during a reload are one further reload."""
        asyncio.get_running_loop().add_signal_handler(number, self._asked.set)
        task = asyncio.create_task(keep_running(self._run, "reloading the config", pause=0.0))
        try:
            yield
        finally:
            await stop([task])

    async def _run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
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

    def _read(self) -> tuple[Config, PublicFiles]:
        config = load(self._path, os.environ)
        return config, self._settings.read(config)

    async def _apply(self) -> None:
        service, loop = self._service, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(SLOW):
                # A stop does not wait for a file that does not answer.
                config, files = await loop.run_in_executor(STATE, self._read)
        except (ConfigError, OSError) as error:
            why = str(error) or f"it was not read within {SLOW:g} s"
            self._broken = why.partition("\n")[0]
            LOG.error("the config is broken, and all stays as it was", why=why)
            return
        found = changes(service.config, config)
        self._broken, self._waiting = "", found.restart
        self._settings.change(config, files)
        service.change(config)
        set_up_logging(service.config.log.format, self._log_level or service.config.log.level)
        LOG.info("config reloaded", applied=found.applied)
        if found.restart:
            LOG.warning("these keys of the config wait for a restart", keys=found.restart)
