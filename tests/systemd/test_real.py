"""The Debian package and its units under a real systemd as PID 1.

The tests share one booted machine; each begins with the mirror installed, running, and with the first config.
"""

import asyncio
import json
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml

from omaha_mirror.config import Address
from tests.support.load import under_load
from tests.support.mirror import PAYLOAD, PAYLOAD_PATH, VERSION, Site, omaha, real_payload
from tests.support.talk import Answer, ask
from tests.support.upstream import Upstream
from tests.systemd import debian
from tests.systemd.debian import Machine, bootstrap, run, until

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(debian.missing()), reason=debian.missing()),
]

ROOT = Path(__file__).parents[2]
SERVICE, SOCKET = "omaha-mirror.service", "omaha-mirror.socket"
CONFIG = "/etc/omaha-mirror/config.yaml"
STATE = "/var/lib/private/omaha-mirror"
TOKEN = "/etc/credstore/omaha-mirror.admin-token"
RELEASE_PORT = 8080
"""In the machine's network there is nothing else; what the mirror remembers of a release holds from test to test."""
DROP_IN = "/run/systemd/system/omaha-mirror.service.d/test.conf"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("deb")
    run(ROOT / "packaging/build-deb", out)
    (package,) = out.iterdir()
    return package


@pytest.fixture(scope="module")
def machine(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("debian") / "root"
    bootstrap(root)
    shutil.copy(package, root / "root/omaha-mirror.deb")
    with Machine(root) as machine:
        yield machine
    shutil.rmtree(root, ignore_errors=True)


class Mirror(Site):
    """The mirror in the machine."""

    address = Address("127.0.0.1", 8000)
    admin = "127.0.0.1:8001"

    def __init__(self, machine: Machine, first: dict[str, object]) -> None:
        self.machine = machine
        self.first = first

    def configure(self, text: str) -> None:
        self.machine.file(CONFIG).write_text(text)

    async def status(self) -> str:
        """What a machine of the track is told now."""
        [app] = (await self.response(omaha("request_check_first"))).apps
        assert app.update_check is not None
        return app.update_check.status

    async def readiness(self) -> tuple[int, dict[str, str]]:
        """The status of /readyz, and the words of what is not well, by name."""
        answer = await self.ask_admin("GET", "/readyz")
        checks = json.loads(answer.body)["checks"]
        return answer.status, {c["name"]: c["words"] for c in checks if c["state"] != "ok"}

    async def ask_admin(self, method: str, path: str, token: str = "") -> Answer:
        headers = {"Host": self.admin} | ({"Authorization": f"Bearer {token}"} if token else {})
        return await ask(Address.parse(self.admin), method, path, headers)

    def show(self, key: str) -> str:
        return self.machine.show(SERVICE, key)

    def restarted(self, pid: str) -> None:
        """Wait until another process than this one is ready."""
        until(lambda: self.show("MainPID") != pid and self.show("ActiveState") == "active")


@pytest.fixture
def _network(machine: Machine) -> Iterator[None]:
    with machine.network():
        yield


@pytest.fixture
async def release(_network: None) -> AsyncIterator[Upstream]:
    """A release server in the machine's network."""
    async with Upstream(RELEASE_PORT) as upstream:
        upstream.put(PAYLOAD_PATH, real_payload())
        yield upstream


@pytest.fixture
async def mirror(machine: Machine, release: Upstream) -> Mirror:
    first: dict[str, object] = {
        "cache": {"directory": "/var/cache/omaha-mirror"},
        "state_directory": "/var/lib/omaha-mirror",
        "default_track": "hold",
        "tracks": {"stable": VERSION},
        "upstream": {"omaha_url": None, "release_url": release.origin},
    }
    for path in (DROP_IN, TOKEN):
        machine.file(path).unlink(missing_ok=True)
    machine.run("systemctl", "daemon-reload")
    if machine.try_("test", "-e", "/usr/bin/omaha-mirror")[0]:
        machine.run("dpkg", "--install", "/root/omaha-mirror.deb")
    mirror = Mirror(machine, first)
    mirror.configure(yaml.safe_dump(first))
    machine.run("systemctl", "reset-failed")
    machine.run("systemctl", "stop", SOCKET, SERVICE)
    machine.run("systemctl", "start", SOCKET, SERVICE)
    return mirror


async def test_it_is_ready_sandboxed_and_serves(machine: Machine, mirror: Mirror) -> None:
    assert machine.run("systemctl", "is-active", SERVICE, SOCKET).split() == ["active"] * 2
    assert machine.run("systemctl", "is-enabled", SERVICE, SOCKET).split() == ["enabled"] * 2
    said = machine.run("systemd-analyze", "security", "--no-pager", SERVICE)
    (exposure,) = re.findall(r"exposure level for .*: (\d+\.\d)", said)
    assert float(exposure) < 2
    process = dict(
        line.split(":\t", 1)
        for line in machine.run("cat", f"/proc/{mirror.show('MainPID')}/status").splitlines()
        if ":\t" in line
    )
    assert "0" not in process["Uid"].split()
    assert (process["NoNewPrivs"], process["CapEff"].strip("0")) == ("1", "")
    assert await mirror.status() == "ok"
    assert (await mirror.get(await mirror.payload())).body == real_payload()
    assert (await mirror.readiness())[0] == 200


async def test_the_socket_starts_it(machine: Machine, mirror: Mirror) -> None:
    machine.run("systemctl", "stop", SERVICE)
    assert mirror.show("ActiveState") == "inactive"
    assert await mirror.status() == "ok"
    assert mirror.show("ActiveState") == "active"


async def test_a_restart_under_load_refuses_no_check(machine: Machine, mirror: Mirror) -> None:
    async with under_load(mirror) as load:
        for _ in range(2):
            await machine.run_beside("systemctl", "restart", SERVICE)
            await load.more()
    assert (load.lost, load.refused) == (0, 0)


async def test_a_killed_one_is_back_and_refuses_nobody(machine: Machine, mirror: Mirror) -> None:
    pid = mirror.show("MainPID")
    machine.run("systemctl", "kill", "--signal=KILL", SERVICE)
    assert await mirror.status() == "ok"
    assert mirror.show("MainPID") != pid
    assert mirror.show("NRestarts") == "1"


async def test_the_watchdog_ends_one_that_hangs(machine: Machine, mirror: Mirror) -> None:
    drop_in = machine.file(DROP_IN)
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text("[Service]\nWatchdogSec=5s\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", SERVICE)
    pid = mirror.show("MainPID")
    machine.run("systemctl", "kill", "--signal=STOP", SERVICE)
    await asyncio.to_thread(mirror.restarted, pid)
    assert await mirror.status() == "ok"


async def test_it_goes_on_when_the_journal_is_killed(machine: Machine, mirror: Mirror) -> None:
    pid = mirror.show("MainPID")
    machine.run(
        "systemctl", "kill", "--kill-whom=main", "--signal=KILL", "systemd-journald.service"
    )
    for _ in range(100):
        assert await mirror.status() == "ok"
    until(lambda: machine.try_("systemctl", "is-active", "systemd-journald.service")[0] == 0)
    track = f"after-{time.monotonic_ns()}"
    body = omaha("request_check_first").replace(b'track="stable"', f'track="{track}"'.encode())
    await mirror.response(body)
    until(lambda: track in machine.run("journalctl", "--unit", SERVICE, "--no-pager"))
    assert mirror.show("MainPID") == pid
    assert (await mirror.readiness())[0] == 200


async def test_a_reload_applies_a_config_and_fails_on_a_broken_one(
    machine: Machine, mirror: Mirror
) -> None:
    pid = mirror.show("MainPID")
    mirror.configure(yaml.safe_dump(mirror.first | {"tracks": {"stable": "hold"}}))
    machine.run("systemctl", "reload", SERVICE)
    assert await mirror.status() == "noupdate"

    mirror.configure("tracks: {stable: hodl}\n")
    code, _ = machine.try_("systemctl", "reload", SERVICE)
    assert code != 0
    assert "config.yaml:1:" in machine.run("journalctl", "--unit", SERVICE, "--no-pager")
    assert await mirror.status() == "noupdate"
    ready, trouble = await mirror.readiness()
    assert (ready, "config" in trouble) == (200, True)
    assert mirror.show("MainPID") == pid


async def test_a_config_that_cannot_be_used_is_not_tried_again(
    machine: Machine, mirror: Mirror
) -> None:
    mirror.configure("tracks: {stable: hodl}\n")
    code, _ = machine.try_("systemctl", "restart", SERVICE)
    assert code != 0
    assert (mirror.show("ExecMainStatus"), mirror.show("NRestarts")) == ("78", "0")
    mirror.configure(yaml.safe_dump(mirror.first))
    assert machine.run("omaha-mirror", "config", "check")
    assert await mirror.status() == "ok"


async def test_a_full_state_disk_stops_no_update(machine: Machine, mirror: Mirror) -> None:
    machine.run("systemctl", "stop", SOCKET, SERVICE)
    machine.run("mount", "-t", "tmpfs", "-o", "size=2m,mode=0755", "tmpfs", STATE)
    try:
        machine.run("systemctl", "start", SOCKET, SERVICE)
        assert await mirror.status() == "ok"
        machine.try_("dd", "if=/dev/zero", f"of={STATE}/full", "bs=4096")
        for _ in range(2):
            assert await mirror.status() == "ok"
            assert (await mirror.get(await mirror.payload())).body == real_payload()
            ready, trouble = await mirror.readiness()
            assert ready == 200
            assert "state" in trouble
            machine.run("systemctl", "restart", SERVICE)
    finally:
        machine.run("systemctl", "stop", SOCKET, SERVICE)
        machine.run("umount", STATE)


async def test_the_operators_token_is_a_credential(machine: Machine, mirror: Mirror) -> None:
    token = machine.file(TOKEN)
    token.parent.mkdir(exist_ok=True)
    token.write_text("a-token-of-the-operator\n")
    token.chmod(0o600)
    machine.run("systemctl", "restart", SERVICE)
    hold = "/api/v1/tracks/beta/hold"
    assert (await mirror.ask_admin("POST", hold)).status == 401
    assert (await mirror.ask_admin("POST", hold, "another")).status == 401
    assert (await mirror.ask_admin("POST", hold, "a-token-of-the-operator")).status == 200
    await machine.run_beside("omaha-mirror", "fetch", VERSION)
    assert token.read_text() == "a-token-of-the-operator\n"


async def test_the_timer_fetches_ahead_of_machines(
    machine: Machine, mirror: Mirror, release: Upstream
) -> None:
    machine.try_("omaha-mirror", "cache", "rm", PAYLOAD)
    assert PAYLOAD not in machine.run("omaha-mirror", "cache", "ls")
    machine.run("systemctl", "enable", "--now", "omaha-mirror-fetch@stable.timer")
    assert "omaha-mirror-fetch@stable" in machine.run("systemctl", "list-timers", "--no-pager")
    await machine.run_beside("systemctl", "start", "omaha-mirror-fetch@stable.service")
    assert PAYLOAD in machine.run("omaha-mirror", "cache", "ls")
    await release.refuse()
    assert (await mirror.get(await mirror.payload())).body == real_payload()
    machine.run("systemctl", "disable", "--now", "omaha-mirror-fetch@stable.timer")


async def test_a_reboot_keeps_what_was_learnt(machine: Machine, mirror: Mirror) -> None:
    assert (await mirror.get(await mirror.payload())).body == real_payload()
    await asyncio.to_thread(machine.reboot)
    with machine.network():  # no release server is here
        assert await mirror.status() == "ok"
        assert (await mirror.get(await mirror.payload())).body == real_payload()


async def test_an_upgrade_refuses_no_check_and_keeps_the_config(
    machine: Machine, mirror: Mirror, package: Path, tmp_path: Path
) -> None:
    newer = tmp_path / "newer"
    run("dpkg-deb", "--raw-extract", package, newer)
    control = newer / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", "Version: 99.0", control.read_text(), flags=re.M))
    run("dpkg-deb", "--build", "-Znone", newer, machine.file("/root/newer.deb"))
    pid = mirror.show("MainPID")
    async with under_load(mirror) as load:
        await machine.run_beside("dpkg", "--install", "/root/newer.deb")
    assert (load.lost, load.refused) == (0, 0)
    assert mirror.show("MainPID") != pid
    assert machine.file(CONFIG).read_text() == yaml.safe_dump(mirror.first)


async def test_a_purge_leaves_nothing(machine: Machine, mirror: Mirror) -> None:
    machine.run("dpkg", "--purge", "omaha-mirror")
    assert machine.show(SERVICE, "LoadState") == "not-found"
    for place in (
        "/opt",
        "/etc",
        "/var/cache",
        "/var/cache/private",
        "/var/lib",
        "/var/lib/private",
        "/run",
    ):
        assert not machine.file(f"{place}/omaha-mirror").exists(), place
    with pytest.raises(ConnectionRefusedError):
        await mirror.status()
