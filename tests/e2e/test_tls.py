"""The whole mirror over TLS, with a password for packages; both are renewed while it runs."""

import re
from pathlib import Path

import yaml

from omaha_mirror.config import Address
from tests.support.mirror import PAYLOAD, MirrorProcess, omaha
from tests.support.upstream import Upstream
from tests.web.secure import OURS, ask_tls, basic, dial_tls, make_certificate


async def test_packages_go_over_tls_to_who_knows_the_password_and_both_can_be_renewed(
    tmp_path: Path, release: Upstream, payload: bytes
) -> None:
    certificate, password = tmp_path / "mine.pem", tmp_path / "password"
    old = make_certificate(certificate)
    password.write_text("first\n")
    edge = {
        "public_url": "https://mirror.test:8443",
        "tls": {"listen": ["127.0.0.1:0"], "certificate": str(certificate)},
        "packages_auth": {"user": "fleet", "password_file": str(password)},
    }
    async with MirrorProcess(tmp_path, release.origin, **edge) as mirror:
        said = await mirror.logged("omaha-mirror listens on https://")
        secure = Address.parse(said.rpartition("/")[2].strip())
        answer = await mirror.post(omaha("request_check_first"))
        found = re.search(rb'codebase="https://mirror\.test:8443(/packages/.*?/)"', answer.body)
        assert found is not None
        path = found[1].decode() + PAYLOAD
        assert (await mirror.get(path)).status == 403

        async with dial_tls(secure, certificate) as talk:
            assert talk.serial == old
        certificate.write_bytes(OURS.read_bytes())
        assert (await mirror.get(path, **basic("fleet", "first"))).status == 403
        password.write_text("second\n")
        mirror.reload(mirror.config)
        await mirror.logged("config reloaded")
        assert (await ask_tls(secure, "GET", path, basic("fleet", "first"))).status == 401
        given = await ask_tls(secure, "GET", path, basic("fleet", "second"))
        assert (given.status, given.body) == (200, payload)

        certificate.write_text("broken")
        mirror.reload(mirror.config)
        assert "no PEM certificate" in await mirror.logged("all stays as it was")
        assert (await ask_tls(secure, "GET", "/healthz")).status == 200

        certificate.write_bytes(OURS.read_bytes())
        open_to_all = yaml.safe_load(mirror.config)
        del open_to_all["packages_auth"]
        mirror.reload(yaml.safe_dump(open_to_all))
        await mirror.logged('["packages_auth.user", "packages_auth.password_file"]')
        assert (await mirror.get(path)).body == payload
