"""The second factor: codes by time as RFC 6238 computes them, and recovery codes."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from tbot_extension_web.access import second_factor

SECRET = base64.b32encode(b"12345678901234567890").decode()
NOW = datetime(2026, 11, 24, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_the_standard(seconds: int, code: str) -> None:
    """The codes are the last six digits of those in RFC 6238, appendix B, for SHA-1."""
    assert second_factor.totp_code(SECRET, datetime.fromtimestamp(seconds, UTC)) == code


@pytest.mark.parametrize(("drift", "found"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_code_may_be_one_step_off(drift: int, *, found: bool) -> None:
    """A clock that is half a minute off still logs in; one that is a minute off does not."""
    code = second_factor.totp_code(SECRET, NOW + timedelta(seconds=30 * drift))
    step = second_factor.matching_step(SECRET, code, NOW)
    assert step == (int(NOW.timestamp()) // 30 + drift if found else None)


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "²²²²²²", "\udcff" * 6])
def test_what_is_no_code_matches_nothing(code: str) -> None:
    """Six ASCII digits are a code; anything else is none, without an error."""
    assert second_factor.matching_step(SECRET, code, NOW) is None


def test_a_new_secret_has_160_bits_and_apps_read_it() -> None:
    """The address for a QR code has secret, user and issuer; by hand a secret may be entered in groups."""
    secret = second_factor.new_totp_secret()
    assert len(base64.b32decode(secret)) == 20
    split = urlsplit(second_factor.totp_uri(secret, "alice", "tbot US_TX_SIM_B01"))
    assert (split.scheme, split.netloc) == ("otpauth", "totp")
    assert parse_qs(split.query)["secret"] == [secret]
    assert parse_qs(split.query)["issuer"] == ["tbot US_TX_SIM_B01"]
    grouped = " ".join((secret[:4], secret[4:])).lower()
    assert second_factor.totp_code(grouped, NOW) == second_factor.totp_code(secret, NOW)
    assert second_factor.is_totp_secret(grouped)


@pytest.mark.parametrize("text", ["", "ABCD", "1" * 32, "not base 32", "Ü" * 32])
def test_what_is_no_secret_is_known(text: str) -> None:
    """Text that is not Base32, and a secret under 128 bits, are refused."""
    assert not second_factor.is_totp_secret(text)


def test_recovery_codes_are_long_and_forgiving() -> None:
    """Ten different codes of 120 bits; case, blanks and hyphens do not matter, another code does not match."""
    codes = second_factor.new_recovery_codes()
    assert len(set(codes)) == 10
    assert all(len(code.replace("-", "")) == 24 for code in codes)
    hashes = [second_factor.recovery_hash(code) for code in codes]
    assert second_factor.matching_recovery(f" {codes[3].upper().replace('-', ' ')}\n", hashes) == hashes[3]
    assert second_factor.matching_recovery("\udcff", hashes) is None
    assert second_factor.matching_recovery("", []) is None
