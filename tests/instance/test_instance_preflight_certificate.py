"""The certificate of the web page, as far as it can be judged without a network."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from tbot_core import cli
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance, secrets
from tbot_core.instance.preflight import certificate_findings
from tbot_core.instance.secret_schemas import NetworkConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 11, 24, 14, 30, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
NETWORK = NetworkConfig(host="0.0.0.0", certificate="web.pem", private_key="web.key", public=True)


def written(home: Path, *, days: int = 90, begins: int = -1, key: ec.EllipticCurvePrivateKey = KEY) -> None:
    """A certificate of KEY, and a key beside it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bot")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(NOW + timedelta(days=begins))
        .not_valid_after(NOW + timedelta(days=days))
        .sign(KEY, SHA256())
    )
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (home / "web.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (home / "web.key").write_bytes(key.private_bytes(*form))
    (home / "web.key").chmod(0o600)


def said(home: Path, network: NetworkConfig = NETWORK) -> list[tuple[str, str]]:
    """Level and sentence of each finding."""
    return [(it.level, it.message) for it in certificate_findings(Instance(home), network, NOW)]


def test_a_good_certificate_says_until_when(tmp_path: Path) -> None:
    """Three weeks before its end it is warned of, outside its term it fails."""
    written(tmp_path)
    assert said(tmp_path) == [("ok", "web.pem is valid until 2027-02-22.")]
    written(tmp_path, days=20)
    assert said(tmp_path) == [("warn", "web.pem is valid until 2026-12-14: renew it.")]
    written(tmp_path, days=0, begins=-9)
    assert said(tmp_path)[0][0] == "warn"
    for days, begins in ((-1, -9), (90, 1)):
        written(tmp_path, days=days, begins=begins)
        ((level, sentence),) = said(tmp_path)
        assert level == "fail"
        assert sentence.startswith("web.pem is only valid from 2026-")


def test_a_key_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    """With the chmod that fixes it."""
    written(tmp_path)
    (tmp_path / "web.key").chmod(0o644)
    assert said(tmp_path)[0] == ("warn", "Other users may read or replace web.key: chmod 600 web.key")


def test_files_that_do_not_serve_fail(tmp_path: Path) -> None:
    """Absent, no PEM, and the key of another certificate; nothing of a key is quoted."""
    ((level, sentence),) = said(tmp_path)
    assert level == "fail"
    assert "web.pem" in sentence
    unusable = "The certificate or its key cannot be used:"
    written(tmp_path, key=ec.generate_private_key(ec.SECP256R1()))
    assert said(tmp_path) == [("fail", f"{unusable} the key belongs to another certificate.")]
    (tmp_path / "web.key").write_text("canary")
    assert said(tmp_path) == [("fail", f"{unusable} the key is not in PEM, or has a passphrase.")]
    (tmp_path / "web.pem").write_text("canary")
    assert said(tmp_path) == [("fail", f"{unusable} the certificate is not in PEM.")]
    (tmp_path / "web.pem").unlink()
    os.mkfifo(tmp_path / "web.pem")
    assert said(tmp_path) == [("fail", f"{unusable} the certificate is not a regular file.")]


@pytest.mark.parametrize(
    ("network", "levels"),
    [
        (NetworkConfig(), []),
        (NetworkConfig(host="localhost"), []),
        (NetworkConfig(host="::1"), []),
        (NetworkConfig(host="bot.example"), ["fail"]),
        (NetworkConfig(public=True), ["fail"]),
        (NetworkConfig(host="0.0.0.0"), ["fail"]),
        (NetworkConfig(certificate="web.pem"), ["fail"]),
        (NetworkConfig(private_key="web.key"), ["fail"]),
    ],
)
def test_what_others_reach_needs_both_files(tmp_path: Path, network: NetworkConfig, levels: list[str]) -> None:
    """Loopback may do without TLS; anything else, and half of the two files, fails."""
    assert [level for level, _ in said(tmp_path, network)] == levels


@pytest.mark.slow
def test_the_check_has_a_row_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], paper_instance: Callable[[Path], Path]
) -> None:
    """`tbot check` judges what the encrypted network configuration names."""
    home = tmp_path / "x"
    paper_instance(home)
    secrets.encrypt_category(
        secrets.open_instance_vault(Instance(home), DeploymentSettings()), "network", b'{"host": "0.0.0.0"}'
    )
    assert cli.invoke(["check", "--home", str(home)]) == 3
    assert (
        "fail  network   The web page would listen on 0.0.0.0 for other machines without TLS."
        in capsys.readouterr().out
    )
