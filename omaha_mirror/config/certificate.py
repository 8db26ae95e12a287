"""The certificate that the mirror shows over TLS, looked at before anybody connects."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from omaha_mirror.aio.clock import kernel_synchronised


def check_certificate(path: Path) -> None:
    """Look at the first certificate of a PEM file: the mirror's own.

    On a clock that is not known to be right its time is not looked at: a wrong one must not stop the start.

    Raises:
        OSError: it cannot be read.
        ValueError: there is none, or its time is surely over; the message says so.
    """
    try:
        mine = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except ValueError:
        raise ValueError(f"{path} holds no PEM certificate") from None
    if mine.not_valid_after_utc < datetime.now(UTC) and kernel_synchronised():
        raise ValueError(
            f"the certificate in {path} ended on {mine.not_valid_after_utc:%Y-%m-%d}: put a new one there"
        )


def server_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """What a TLS server needs; TLS 1.2 is the oldest version that it speaks.

    Args:
        certificate: PEM, the mirror's own first and then those that lead to a known authority.
        key: PEM without a passphrase; None: it is in the same file.

    Raises:
        OSError: a file cannot be read, or the two cannot be used; the message says which and why.
    """
    for path in (certificate, key or certificate):
        try:
            path.open("rb").close()
        except OSError as error:
            raise type(error)(f"cannot read {path}: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        place = key or certificate
        if error.reason == "KEY_VALUES_MISMATCH":
            why = f"the key in {place} does not belong to the certificate in {certificate}"
        else:
            why = f"{place} holds no PEM key without a passphrase, or {certificate} no certificate"
        raise OSError(why) from None
    return context
