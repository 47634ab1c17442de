"""Secrets hide themselves, and the gate removes them from whatever leaves."""

from __future__ import annotations

import base64
import copy
import gc
import json
import pickle
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.errors import VaultError
from tbot_core.system import redaction
from tbot_core.system.redaction import hide_keys, is_shaped_like_secret, redact
from tbot_core.system.secret import SHOWN, Secret, handed_out

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = 'c4nary/"+ä\\token&9'


def test_a_secret_shows_the_same_text_everywhere() -> None:
    """repr, str and every format give the placeholder."""
    secret = Secret(CANARY)
    assert {repr(secret), str(secret), f"{secret}", f"{secret:>40}", f"{secret!r}"} == {SHOWN}
    assert secret.reveal() == CANARY
    assert secret.inspect_bytes() == CANARY.encode()


@pytest.mark.parametrize(
    "deed",
    [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, hash, lambda secret: secret == "x", vars],
    ids=["pickle", "copy", "deepcopy", "json", "hash", "compare", "vars"],
)
def test_a_secret_refuses_to_be_carried_away(deed: Callable[[object], object]) -> None:
    """Pickle, copy, JSON, hash, comparison and a look inside raise TypeError without the value."""
    with pytest.raises(TypeError) as caught:
        deed(Secret(CANARY))
    assert CANARY not in str(caught.value)


def test_a_wiped_secret_is_gone() -> None:
    """After `wipe` the value cannot be had, and is no longer searched for."""
    secret = Secret(b"wiped-value")
    secret.wipe()
    secret.wipe()
    assert not secret.is_held
    assert redact("wiped-value") == "wiped-value"
    with pytest.raises(VaultError, match="wiped"):
        secret.reveal()


def test_a_value_that_was_handed_out_is_redacted_to_the_end() -> None:
    """Its text may be shown when the secret is wiped and dropped; a value that was only judged is forgotten."""
    values = [f"handed-out-{number}" for number in range(3)]
    secrets = [Secret(value) for value in values]
    assert [secret.reveal() for secret in secrets] == values
    for secret in secrets:
        secret.wipe()
    judged = Secret("only-judged")
    assert (judged.inspect(), judged.inspect_bytes()) == ("only-judged", b"only-judged")
    secrets.clear()
    del judged
    gc.collect()
    assert handed_out() == tuple(value.encode() for value in values)
    assert redact(f"login failed with key {values[0]}, then {values[2].encode().hex()}") == (
        f"login failed with key {SHOWN}, then {SHOWN}"
    )
    assert redact("only-judged") == "only-judged"


def test_the_longest_form_is_redacted_where_one_value_begins_as_another() -> None:
    """Nothing of the longer value is left behind, whichever was handed out first."""
    for value in ("key-4711", "key-4711-and-more"):
        Secret(value).reveal()
    assert redact("x key-4711-and-more y key-4711 z") == f"x {SHOWN} y {SHOWN} z"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("u3ep2BjC9Ir7UWZ4y0qvO_dwoBPY77ADYPB0zPbWb-U=", SHOWN),
        ("conf/u3ep2BjC9Ir7UWZ4y0qvO_dwoBPY77ADYPB0zPbWb-U.enc", f"conf/{SHOWN}.enc"),
        ("storage/keys/a_key_with_a_name_that_is_as_long_as_a_key", None),
        ("u3ep2BjC9Ir7UWZ4y0qvO/dwoBPY77ADYPB0zPbWb+U=", SHOWN),
        ("u3ep2BjC9Ir7UWZ4y0qvO_dwoBPY77ADYPB0zPbWb-UU", SHOWN),
        ("tbot1.VEJPVEVOQwEBu3ep2BjC9Ir7UWZ4y0qvO_dwoBPY77ADYPB0zPbWb-U", SHOWN),
        ("gAAAAABl" + "xYz-_aBc" * 12 + "==", SHOWN),
        ("-----BEGIN PRIVATE KEY-----", SHOWN),
        ("AKIAIOSFODNN7EXAMPLE", SHOWN),
        ("PKABCDEFGH1IJKLMNOPQ", SHOWN),
        ("wJalrXUtnFEMI7K7MDENGxbPxRfiCYEXAMPLE4KEY9", SHOWN),
        ("0c7e1b4a9d2f85e63c01ab47", SHOWN),
        ("STRAT_" + "X" * 37, None),
        ("", None),
        ("storage/keys/broker.key", None),
        ("/srv/trading-2026/tbot.v2/storage/secrets/broker_credentials.json.enc", None),
        ("Control_Folder_Of_The_Bot_2026", None),
        ("tbot1.key", None),
        ("PKCS12_AND_OTHER_THINGS", None),
    ],
)
def test_what_looks_like_a_key_is_hidden(text: str, shown: str | None) -> None:
    """The text of a key file, of an encrypted one, of a certificate, of a broker's key; a path or a name stays."""
    assert hide_keys(text) == (text if shown is None else shown)
    assert is_shaped_like_secret(text) is (shown == SHOWN)


def test_an_empty_secret_is_refused() -> None:
    """An empty value is a mistake, not a secret."""
    with pytest.raises(VaultError, match="empty"):
        Secret("")


@pytest.mark.parametrize(
    "encode",
    [
        str,
        lambda text: text[::-1],
        lambda text: text.encode().hex(),
        lambda text: text.encode().hex().upper(),
        lambda text: quote(text, safe=""),
        json.dumps,
        lambda text: json.dumps(text, ensure_ascii=False),
        repr,
        lambda text: text[: len(text) // 2],
    ],
    ids=["raw", "reversed", "hex", "HEX", "url", "json", "json-utf8", "repr", "half"],
)
def test_every_usual_encoding_of_a_living_secret_is_removed(encode: Callable[[str], str]) -> None:
    """No encoding of a secret passes while it lives; all do once it is dropped."""
    secret = Secret(CANARY)
    line = f"before {encode(CANARY)} after"
    assert encode(CANARY).strip("\"'") not in redact(line)
    assert redact(line).startswith("before ")
    assert redact(line).endswith(" after")
    del secret
    gc.collect()
    assert redact(line) == line


@given(before=st.binary(max_size=5), after=st.binary(max_size=5), value=st.binary(min_size=12, max_size=40))
def test_a_secret_inside_base64_is_removed_wherever_it_begins(before: bytes, after: bytes, value: bytes) -> None:
    """Base64 of anything that holds the secret, as a Basic login does, loses the secret's letters."""
    secret = Secret(value)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(before + value + after).decode()
        cleaned = redact(text)
        assert SHOWN in cleaned
        assert len(cleaned) - len(SHOWN) <= len(text) - (len(value) * 4 // 3 - 2)
    assert secret.is_held


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer [redacted]"),
        ("{'authorization': 'Basic dXNlcjpwYXNz'}", "{'authorization': 'Basic [redacted]'}"),
        ("AUTHOR\u0130ZATION=Basic dXNlcjpwYXNz", "AUTHOR\u0130ZATION=Basic [redacted]"),
        ("\u017fet-coo\u212a\u0131e: session=abc", "\u017fet-coo\u212a\u0131e: [redacted]"),
        ("got bearer abcdefgh.ijk", "got bearer [redacted]"),
        ("Set-Cookie: session=abc; Path=/", "Set-Cookie: [redacted]"),
        ("GET /quote?symbol=SPY&token=abc123", "GET /quote?symbol=SPY&token=[redacted]"),
        ("a -----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY----- b", "a [redacted] b"),
        ("a bearer of news; order.submitted id=ab12", "a bearer of news; order.submitted id=ab12"),
    ],
)
def test_text_shaped_like_a_secret_is_removed_unregistered(line: str, kept: str) -> None:
    """Headers, cookies, query signatures and PEM blocks are redacted even when they were not registered."""
    assert redact(line) == kept


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("no secrets were found", None),
        ("secrecy, sterces and 7secr8", None),
        ("login secr refused", f"login {SHOWN} refused"),
        ("secr", SHOWN),
        ("password=secr&user=x_secr", f"password={SHOWN}&user=x_{SHOWN}"),
        ('{"p": "secr"} rces', f'{{"p": "{SHOWN}"}} {SHOWN}'),
        (f"hex 00{b'secr'.hex()}ff", f"hex 00{SHOWN}ff"),
    ],
)
def test_a_short_secret_is_redacted_as_a_whole_word(line: str, kept: str | None) -> None:
    """Inside of ordinary words it stays, where it would show itself; its hexadecimal form goes everywhere."""
    secret = Secret("secr")
    assert redact(line) == (line if kept is None else kept)
    assert redact("secr-longer-than-it") == f"{SHOWN}-longer-than-it"
    longer = Secret("secr-longer-than-it")
    assert redact("a secr-longer-than-it b") == f"a {SHOWN} b"
    assert longer.is_held
    assert secret.is_held


def test_a_short_secret_of_signs_needs_no_gap() -> None:
    """What is no letter or digit at its edge separates it from a word."""
    secret = Secret("#a!")
    longer = Secret("#ab!")
    assert redact("x#ab!y") == f"x{SHOWN}y"
    assert (secret.is_held, longer.is_held) == (True, True)


def test_a_text_is_redacted_where_no_secret_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the shapes of secrets alone, as in a process that has read none."""
    monkeypatch.setattr(redaction, "living_secrets", list)
    monkeypatch.setattr(redaction, "handed_out", list)
    assert redact("AAPL at 100") == "AAPL at 100"
    assert redact("Authorization: Bearer abcdefghijklmnop").endswith(SHOWN)
