"""An admin listener with the status page, and what a browser says to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from omaha_mirror.config import Address
from tests.support.mirror import Mirror
from tests.support.talk import Answer, ask

TOKEN = "0123456789abcdef"


@dataclass(frozen=True)
class Site:
    mirror: Mirror
    address: Address

    @property
    def host(self) -> str:
        return f"localhost:{self.address.port}"

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        fields = {"Host": self.host} | {k.replace("_", "-"): v for k, v in headers.items()}
        return await ask(self.address, method, path, fields)

    async def text(self, path: str) -> str:
        answer = await self.get(path)
        assert answer.status == 200, answer.body
        return answer.body.decode()

    async def submit(self, path: str, fields: Mapping[str, str], **headers: str) -> Answer:
        """Send a form as a browser does."""
        told = {
            "Host": self.host,
            "Origin": f"http://{self.host}",
            "Sec-Fetch-Site": "same-origin",
            "Content-Type": "application/x-www-form-urlencoded",
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        return await ask(self.address, "POST", path, told, urlencode(fields).encode())
