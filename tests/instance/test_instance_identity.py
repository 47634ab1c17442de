"""The bot's identity: its pattern, its parts, and the file that holds it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import SettingsError, VaultError
from tbot_core.instance import Instance, secrets
from tbot_core.instance.identity import Identity, read_identity

if TYPE_CHECKING:
    from pathlib import Path


@given(st.from_regex(r"[A-Z]{2,6}_[A-Z]{2,4}_[A-Z]{2,10}_[A-Z0-9]{2,6}", fullmatch=True))
def test_an_identity_is_its_four_parts(text: str) -> None:
    """Every text of the pattern is read into parts that give the same text."""
    assert Identity.parse(text).text == text


@pytest.mark.parametrize(
    "text",
    ["", "ACME_US_ALPACA", "acme_US_ALPACA_B01", "ACME_US_ALPACA_B01\n", "A_US_ALPACA_B01", "ACME_US_ALPACA_B_1"],
)
def test_anything_else_is_refused_without_being_shown(text: str) -> None:
    """The sentence says what is allowed, and does not repeat what stands there."""
    with pytest.raises(SettingsError, match="BOT_IDENTITY_STRING") as fault:
        Identity.parse(text)
    assert "ACME_US_ALPACA_B01, " not in str(fault.value)


def write(home: Path, content: object) -> None:
    """The identity's file with this content."""
    secrets.encrypt_category(
        secrets.open_instance_vault(Instance(home), DeploymentSettings()), "bot_identity", json.dumps(content).encode()
    )


def test_the_identity_comes_from_its_encrypted_file(tmp_path: Path) -> None:
    """None where there is no file; its parts where there is one."""
    assert read_identity(Instance(tmp_path), DeploymentSettings()) is None
    write(tmp_path, {"BOT_IDENTITY_STRING": "ACME_US_ALPACA_B01"})
    found = read_identity(Instance(tmp_path), DeploymentSettings(), live=True)
    assert found == Identity(entity="ACME", jurisdiction="US", broker="ALPACA", bot_id="B01")


def test_a_file_without_the_field_or_without_its_key_is_an_error(tmp_path: Path) -> None:
    """A missing field is named, and a missing key has its code: an identity is never passed over."""
    write(tmp_path, {"name": "x"})
    with pytest.raises(VaultError, match=r"(?s)unknown field name; .* lacks the field BOT_IDENTITY_STRING: ENTITY_"):
        read_identity(Instance(tmp_path), DeploymentSettings())
    (tmp_path / "storage" / "keys" / "bot_identity.key").unlink()
    with pytest.raises(VaultError, match="TB-SEC-021 bot_identity"):
        read_identity(Instance(tmp_path), DeploymentSettings())


@pytest.mark.parametrize(
    ("broker", "text"),
    [("paper", "TBOT_US_PAPER_B01X"), ("x9", "TBOT_US_BROKER_B01X"), ("a_broker_of_many", "TBOT_US_ABROKEROFM_B01X")],
)
def test_a_proposed_identity_names_the_broker(broker: str, text: str) -> None:
    """As far as its letters can be a part of it."""
    assert Identity.proposed(broker, "b01x") == Identity.parse(text)
