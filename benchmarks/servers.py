"""The servers side by side, each as processes of its own: this mirror, and the peers that are installed."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.mirror import DATA, PAYLOAD, omaha, settings
from tests.support.ports import free_port

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"
PATIENCE = 60.0
CERTIFICATE = DATA / "tls" / "localhost.pem"
MIRROR = "omaha-mirror"
NGINX = "nginx"
NGINX_CACHE = "nginx proxy_cache"
NGINX_SLICE = "nginx slice"
VARNISH = "varnish"
SERVE_PACKAGE = "serve-package"


def path_of(version: str, name: str = PAYLOAD) -> str:
    """A file's path on the release server, and on the mirror."""
    return f"/amd64-usr/{version}/{name}"


@dataclass(frozen=True, slots=True)
class Site:
    """What a server is started with.

    Attributes:
        directory: an empty one for all that it writes.
        files: the folder of the release server's files.
        origin: the release server's URL.
        versions: releases that there will be; machines of the track `stable` are offered the first one.
        changes: of the mirror's config.
        code: the folder that the mirror's package is in.
        prelude: Python that the mirror runs first.
    """

    directory: Path
    files: Path
    origin: str
    versions: Sequence[str] = ("4000.0.0",)
    changes: Mapping[str, Any] = field(default_factory=dict)
    code: Path = ROOT
    prelude: str = ""


class Server:
    """Processes that listen on one port. A context manager.

    Args:
        name: for the tables.
        command: starts it in the foreground.
        port: that it will listen on.
        log: where what it says goes.
        tls_port: that it will listen on over TLS.
        path: of a package, where it is not the release server's own.

    Attributes:
        log: see above.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        log: Path,
        *,
        tls_port: int = 0,
        path: str = "",
        code: Path = ROOT,
    ) -> None:
        self.name, self.port, self.tls_port = name, port, tls_port
        self.log, self._command, self._path, self._code = log, command, path, code

    def __enter__(self) -> Self:
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, cwd=self._code, stdout=log, stderr=log)
        try:
            while not self._listens():
                if time.monotonic() > began + PATIENCE:
                    raise RuntimeError(f"{self.name} does not listen")
                time.sleep(0.005)
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()

    def path(self, path: str) -> str:
        """Where it has a package of the release server."""
        return self._path or path

    def cpu(self) -> float:
        """Seconds of CPU, user and system, that its process tree has used so far."""
        return sum(map(_cpu, _tree(self.process.pid)))

    def memory(self) -> int:
        """Proportional set size of its process tree, in bytes."""
        return sum(map(_pss, _tree(self.process.pid)))

    def _listens(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} does not start:\n{self.log.read_text()[-2000:]}")
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0


def _tree(pid: int) -> list[int]:
    """A process and all below it."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += map(int, (task / "children").read_text().split())
    return [pid, *(below for child in children for below in _tree(child))]


def _cpu(pid: int) -> float:
    """The kernel's own sum for a process; /proc/PID/stat has the same in hundredths."""
    return time.clock_gettime((~pid << 3) | 2)


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    [kib] = [line.split()[1] for line in lines if line.startswith("Pss:")]
    return int(kib) * 1024


def mirror(site: Site) -> Server:
    """This mirror: logs to a file at `info`, records the fleet, a track for each version."""
    port, tls_port = free_port(), free_port()
    tracks = {f"track-{version}": version for version in site.versions}
    changes = {
        "listen": [f"{HOST}:{port}"],
        "tls": {"listen": [f"{HOST}:{tls_port}"], "certificate": str(CERTIFICATE)},
        "tracks": tracks | {"stable": site.versions[0]},
        **site.changes,
    }
    config = site.directory / "mirror.yaml"
    config.write_text(yaml.safe_dump(settings(site.directory, site.origin, **changes)))
    run = "import runpy; runpy.run_module('omaha_mirror', run_name='__main__', alter_sys=True)"
    program = ("-c", f"{site.prelude}\n{run}") if site.prelude else ("-m", "omaha_mirror")
    return Server(
        MIRROR,
        (sys.executable, *program, "serve", "--config", str(config)),
        port,
        site.directory / "mirror.log",
        tls_port=tls_port,
        code=site.code,
    )


def nginx(site: Site) -> Server:
    """Static files, and one constant answer to each update check: what the hardware can do."""
    offer = omaha("response_offer").decode()
    constant = f"location /v1/update/ {{ default_type text/xml; return 200 '{offer}'; }}"
    return _nginx(NGINX, site, f"root {site.files};", constant)


PROXY = (
    "proxy_pass {origin}; proxy_http_version 1.1; proxy_set_header Connection '';"
    " proxy_cache packages; proxy_cache_valid 200 206 1h; proxy_ignore_client_abort on;"
    " proxy_cache_lock on; proxy_cache_lock_age 1h; proxy_cache_lock_timeout 1h;"
)


def nginx_cache(site: Site) -> Server:
    """A proxy whose lock is held as long as a package takes; by default it is given up after 5 s."""
    return _nginx(NGINX_CACHE, site, PROXY.format(origin=site.origin))


def nginx_slice(site: Site) -> Server:
    """A proxy that fetches and keeps a package in slices of 1 MiB."""
    location = (
        "slice 1m; proxy_cache_key $uri$slice_range; proxy_set_header Range $slice_range; "
        + PROXY.format(origin=site.origin)
    )
    return _nginx(NGINX_SLICE, site, location)


def _nginx(name: str, site: Site, location: str, other: str = "") -> Server:
    """Nginx with one worker for each core, what it does with packages, and another location."""
    port, tls_port = free_port(), free_port()
    folder = site.directory / "nginx"
    folder.mkdir()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    config = folder / "nginx.conf"
    config.write_text(
        f"{'user root;' if os.geteuid() == 0 else ''}"
        f"daemon off; worker_processes auto; pid {folder}/pid; error_log stderr;"
        " worker_rlimit_nofile 65536; events { worker_connections 8192; }"
        " http { sendfile on; tcp_nopush on; keepalive_requests 100000000; "
        f" access_log {folder}/access.log; {paths}"
        f" proxy_cache_path {folder}/store keys_zone=packages:16m max_size=20g use_temp_path=off;"
        f" ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {CERTIFICATE};"
        f" ssl_certificate_key {CERTIFICATE};"
        f" server {{ listen {HOST}:{port} reuseport backlog=4096;"
        f" listen {HOST}:{tls_port} ssl reuseport backlog=4096; location / {{ {location} }} {other} }} }}"
    )
    command = (shutil.which("nginx") or "nginx", "-e", "stderr", "-c", str(config))
    return Server(name, command, port, folder / "log", tls_port=tls_port)


def varnish(site: Site) -> Server:
    """Varnish with its store in memory."""
    port = free_port()
    origin = site.origin.rpartition("/")[2].split(":")
    vcl = site.directory / "default.vcl"
    vcl.write_text(
        f'vcl 4.1; backend default {{ .host = "{origin[0]}"; .port = "{origin[1]}"; }}'
        " sub vcl_backend_response { set beresp.ttl = 1h; }"
    )
    options = ("thread_pool_max=3000", "thread_pool_min=50", "vsl_space=8m")
    command = (
        *(shutil.which("varnishd") or "varnishd", "-F", "-j", "none", "-T", "none"),
        *("-n", str(site.directory / "work"), "-f", str(vcl), "-a", f"{HOST}:{port}"),
        *("-s", "malloc,3g", *(word for option in options for word in ("-p", option))),
    )
    return Server(VARNISH, command, port, site.directory / "varnish.log")


def serve_package(site: Site) -> Server:
    """go-omaha's, with the first version's payload."""
    port = free_port()
    command = (
        *(_serve_package(), "-package-version", site.versions[0]),
        *("-package-file", str(site.files / path_of(site.versions[0])[1:])),
        *("-listen-address", f"{HOST}:{port}"),
    )
    log = site.directory / "serve-package.log"
    return Server(SERVE_PACKAGE, command, port, log, path="/packages/update.gz")


def _serve_package() -> str:
    return os.environ.get("SERVE_PACKAGE") or shutil.which("serve-package") or ""


def _said(*command: str) -> str:
    """What a command prints, on either output; "" where there is none."""
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ""
    return found.stdout + found.stderr


START: dict[str, Callable[[Site], Server]] = {
    MIRROR: mirror,
    NGINX: nginx,
    NGINX_CACHE: nginx_cache,
    NGINX_SLICE: nginx_slice,
    VARNISH: varnish,
    SERVE_PACKAGE: serve_package,
}


def versions() -> dict[str, str]:
    """The servers that can be started here, and which version of each."""
    options = _said("nginx", "-V")
    nginx_version = options.partition("nginx version: nginx/")[2].partition("\n")[0]
    mirror_version = _said("git", "-C", str(ROOT), "describe", "--always", "--dirty").strip()
    found = {
        MIRROR: mirror_version or "?",
        NGINX: nginx_version,
        NGINX_CACHE: nginx_version,
        NGINX_SLICE: nginx_version if "http_slice_module" in options else "",
        VARNISH: _said("varnishd", "-V").partition("(varnish-")[2].partition(" ")[0],
        SERVE_PACKAGE: "as given" if _serve_package() else "",
    }
    return {name: version for name, version in found.items() if version}
