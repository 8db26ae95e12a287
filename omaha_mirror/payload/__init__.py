"""The CrAU format of update payloads: the contents, digests and signatures of a file.

>>> from pathlib import Path
>>> from omaha_mirror.payload import *
>>> def describe(path: Path, key: Path) -> str:
...     with path.open("rb") as file:
...         report = verify(file, load_keys([key]))
...     return "accepted" if report.signed.valid_for_update_engine and not report.wrong else "refused"
"""

from omaha_mirror.payload.header import MetadataDigest, NotAPayload, PayloadError
from omaha_mirror.payload.keys import BadKey, Key, load_keys, read_key, read_pem
from omaha_mirror.payload.manifest import (
    Info,
    Manifest,
    Operation,
    OperationType,
    Section,
    read_manifest,
    read_metadata,
    read_metadata_if_ready,
)
from omaha_mirror.payload.operation_digests import OperationDigests, Verdicts
from omaha_mirror.payload.signature import Signature, Signed, SignedPrefix
from omaha_mirror.payload.verify import Report, verify

__all__ = [
    "BadKey",
    "Info",
    "Key",
    "Manifest",
    "MetadataDigest",
    "NotAPayload",
    "Operation",
    "OperationDigests",
    "OperationType",
    "PayloadError",
    "Report",
    "Section",
    "Signature",
    "Signed",
    "SignedPrefix",
    "Verdicts",
    "load_keys",
    "read_key",
    "read_manifest",
    "read_metadata",
    "read_metadata_if_ready",
    "read_pem",
    "verify",
]
