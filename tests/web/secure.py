"""A TLS listener before a mirror in this process, a client of it, and certificates made on the spot."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from omaha_mirror.config import Address
from omaha_mirror.web.public_settings import PublicSettings
from omaha_mirror.web.server import Listener
from omaha_mirror.web.tls import Certificate
from tests.support.mirror import DATA, Mirror, public_app
from tests.support.talk import PATIENCE, Answer, request

OURS = DATA / "tls" / "localhost.pem"
"""A certificate for localhost and its key."""
AUTHORITY = DATA / "tls" / "authority.pem"


@asynccontextmanager
async def listening(
    mirror: Mirror, settings: PublicSettings
) -> AsyncIterator[tuple[Address, Listener]]:
    """The mirror over TLS; with the certificate of `settings`."""
    assert settings.certificate is not None
    listener = Listener(public_app(mirror.service, settings))
    [address] = await listener.start([Address("127.0.0.1", 0)], settings.certificate.context)
    try:
        yield address, listener
    finally:
        await listener.stop()


def secure_settings() -> PublicSettings:
    return PublicSettings(certificate=Certificate(OURS, None))


class SecureTalk:
    """One connection over TLS, of a client that trusts one authority."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Answer:
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        return Answer(int(first.split(" ")[1]), headers)

    async def answer(self, *, bodiless: bool = False) -> Answer:
        head = await self.head()
        async with asyncio.timeout(PATIENCE):
            body = b"" if bodiless else await self.reader.readexactly(head.length)
        return Answer(head.status, head.headers, body)

    @property
    def serial(self) -> int:
        """Of the certificate that the server showed."""
        shown = self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown).serial_number


@asynccontextmanager
async def dial_tls(
    address: Address, authority: Path = AUTHORITY, limit: int = 64 * 1024
) -> AsyncIterator[SecureTalk]:
    """Connect; the client buffers about `limit` bytes of what it does not read."""
    context = ssl.create_default_context(cafile=authority)
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=context, server_hostname="localhost", limit=limit
    )
    try:
        yield SecureTalk(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def ask_tls(
    address: Address,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Answer:
    """One request on a connection of its own."""
    async with dial_tls(address) as talk:
        await talk.send(request(method, path, headers, body))
        return await talk.answer(bodiless=method == "HEAD")


def basic(user: str, password: str) -> dict[str, str]:
    """The header that names them."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def make_certificate(path: Path, kind: str = "ec", days: int = 1, since: int = -30) -> int:
    """Write a key and a certificate for localhost that vouches for itself, from `since` days to `days` days from now; its serial number."""
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = (
        ec.generate_private_key(ec.SECP256R1())
        if kind == "ec"
        else rsa.generate_private_key(65537, 2048)
    )
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) + timedelta(days=since))
        .not_valid_after(datetime.now(UTC) + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(pem)
    )
    return made.serial_number
