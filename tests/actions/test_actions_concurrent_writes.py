"""Two writers of one file of secrets or settings: what the first has stored is kept, or the second is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tbot_core.actions import config, secrets
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import AccessError, UsageError, VaultError
from tbot_core.instance import Instance
from tbot_core.instance import secrets as instance_secrets
from tbot_core.testing.canaries import canary
from tbot_core.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MINE, OTHERS = {"mine": {"key": canary("mine")}}, {"others": {"key": canary("others")}}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An instance with encrypted settings."""
    instance_secrets.forget_passphrases()
    vault = instance_secrets.open_instance_vault(Instance(tmp_path), DeploymentSettings())
    instance_secrets.encrypt_category(vault, "env_bot", b"BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=open\n")
    yield tmp_path
    instance_secrets.forget_passphrases()


@pytest.fixture
def at_check(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Lets another process write once, between the reading of a file and the writing of what was made of it."""
    check = secrets.check_contents

    def given(other: Callable[[], object]) -> None:
        waiting = [other]

        def checked(*args: object, **more: object) -> None:
            check(*args, **more)  # type: ignore[arg-type]  # as it was called
            if waiting:
                waiting.pop()()

        monkeypatch.setattr(secrets, "check_contents", checked)

    return given


@pytest.mark.parametrize("first", [None, {"older": {"key": canary("older")}}])
def test_values_of_both_writers_are_stored(
    home: Path, at_check: Callable[[Callable[[], object]], None], first: dict[str, dict[str, str]] | None
) -> None:
    """Also where both make the category's file, and its key."""
    if first:
        secrets.put_values(home, "broker", first)
    at_check(lambda: secrets.put_values(home, "broker", OTHERS))
    secrets.put_values(home, "broker", MINE)
    assert secrets.stored_content(home, "broker") == {**(first or {}), **MINE, **OTHERS}


@pytest.mark.slow
def test_settings_of_both_writers_are_stored(home: Path, at_check: Callable[[Callable[[], object]], None]) -> None:
    """A value of the command line and one of the page."""
    at_check(lambda: secrets.put_values(home, "env_bot", {"MAX_TRADES": "3"}))
    secrets.put_values(home, "env_bot", {"SEED": "7"})
    text = config.stored_config(home).text.decode()
    assert ("MAX_TRADES=3" in text, "SEED=7" in text) == (True, True)


def test_a_text_of_an_earlier_file_is_not_stored(home: Path) -> None:
    """The editor was open meanwhile; equal settings that were written again count as a change too."""
    early = config.stored_config(home)
    secrets.put_values(home, "env_bot", {"SEED": "7"})
    with pytest.raises(UsageError, match="was changed meanwhile"):
        early.replace(b"SEED=8\n")
    assert b"SEED=7" in config.stored_config(home).text


def test_who_is_always_overtaken_gives_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sentence, after a few tries."""
    monkeypatch.setattr(Vault, "write", lambda *_: False)
    with pytest.raises(AccessError, match="Other processes keep writing broker"):
        secrets.put_values(home, "broker", MINE)


def test_a_key_that_another_process_has_just_made_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another failure of making one stays a failure."""
    vault = secrets.vault_of_home(home)
    vault.make_key("smtp")
    monkeypatch.setattr(instance_secrets, "lacks_key", lambda *_: True)
    assert instance_secrets.encrypt_category(vault, "smtp", b"{}")

    def fail(*_: object) -> str:
        raise VaultError("no", "", code="TB-SEC-000")

    monkeypatch.setattr(Vault, "make_key", fail)
    with pytest.raises(VaultError, match="no"):
        instance_secrets.encrypt_category(vault, "smtp", b"{}")
