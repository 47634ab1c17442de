"""Checks of the web page's certificate without a network: existence, key and validity."""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from tbot_core.errors import AccessError
from tbot_core.instance.findings import SettingsFinding
from tbot_core.system import filesystem, secure_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography.x509 import Certificate

    from tbot_core.instance.folder import Instance
    from tbot_core.instance.secret_schemas import NetworkConfig

SOON: Final = timedelta(days=21)
_LIMIT_BYTES: Final = 100_000


def certificate_findings(instance: Instance, network: NetworkConfig, now: datetime) -> Iterator[SettingsFinding]:
    """Check the certificate and the key that the network configuration names."""
    if network.certificate is None and network.private_key is None:
        if network.public or not _is_loopback(network.host):
            yield _fail(f"The web page would listen on {network.host} for other machines without TLS.")
        return
    if network.certificate is None or network.private_key is None:
        yield _fail("The network configuration names only one of certificate and private_key.")
        return
    try:
        certificate = _certificate(instance.path(network.certificate))
        yield from _key(instance, network.private_key, certificate)
    except (AccessError, ValueError) as fault:
        words = fault.message if isinstance(fault, AccessError) else str(fault)
        yield _fail(f"The certificate or its key cannot be used: {words}")
        return
    yield _term(network.certificate, certificate, now)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _certificate(path: Path) -> Certificate:
    # The first certificate of the chain; raises ValueError if invalid, AccessError if unreadable.
    from cryptography.x509 import load_pem_x509_certificates

    if filesystem.is_endless(path):
        raise ValueError("the certificate is not a regular file.")
    try:
        return load_pem_x509_certificates(filesystem.read_bytes(path, limit=_LIMIT_BYTES))[0]
    except ValueError:
        raise ValueError("the certificate is not in PEM.") from None


def _key(instance: Instance, path: str, certificate: Certificate) -> Iterator[SettingsFinding]:
    # Raises ValueError for an invalid key, or the key of another certificate.
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    content = secure_files.read(instance.path(path), limit=_LIMIT_BYTES, strict=False)
    with content.data as text:
        try:
            public = load_pem_private_key(bytes(text.view), password=None).public_key()
        except (TypeError, ValueError):
            raise ValueError("the key is not in PEM, or has a passphrase.") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if public.public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise ValueError("the key belongs to another certificate.")
    if content.flaws:
        yield SettingsFinding(level="warn", message=f"Other users may read or replace {path}: chmod 600 {path}")


def _term(path: str, certificate: Certificate, now: datetime) -> SettingsFinding:
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not first <= now <= last:
        return _fail(f"{path} is only valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}.")
    if last - now < SOON:
        return SettingsFinding(level="warn", message=f"{path} is valid until {last:%Y-%m-%d}: renew it.")
    return SettingsFinding(level="ok", message=f"{path} is valid until {last:%Y-%m-%d}.")


def _fail(sentence: str) -> SettingsFinding:
    return SettingsFinding(level="fail", message=sentence)
