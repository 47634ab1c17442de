"""A value that a vendor renewed is stored encrypted in its field, and nothing else changes."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from tbot_core.contracts.credentials import PluginSecrets, SecretValue, hidden_field, shown_field
from tbot_core.contracts.setting import integer
from tbot_core.errors import PluginError, VaultError


@attrs.frozen(kw_only=True)
class Session:
    """A broker's fields."""

    token: SecretValue = hidden_field(doc="A token.", aliases=("access_token",))
    port: int = shown_field(integer(most=9), default="3", doc="A port.")


BEFORE = {"acme": {"Access_Token": "old", "port": 5}, "other": {"token": "theirs"}}


def written(bench: Any, category: str = "broker", values: object = BEFORE) -> Any:
    """The vault of an instance with these values."""
    vault = bench.vault()
    vault.make_key(category)
    vault.write(category, json.dumps(values).encode())
    bench.quiet()
    return vault


def stored(vault: Any, category: str = "broker") -> Any:
    """What the file holds."""
    with vault.read(category) as opened:
        return json.loads(bytes(opened.view))


def test_a_renewed_value_replaces_the_former_one(bench: Any) -> None:
    """In any spelling; the other fields and sections stay, and every access is audited."""
    vault = written(bench)
    made = vault.renew(Session, "broker", {"token": "new"}, "acme")
    assert (made.token.reveal(), made.port) == ("new", 5)
    assert bench.notes.words == [
        ("decrypt", "broker", "ok"), ("write", "broker", "begun"), ("write", "broker", "ok")
    ]  # fmt: skip
    assert stored(vault) == {"acme": {"port": 5, "token": "new"}, "other": {"token": "theirs"}}
    assert vault.read_as(Session, "broker", "acme").token.reveal() == "new"


def test_a_category_that_is_one_object_is_renewed_too(bench: Any) -> None:
    """It has no sections."""
    vault = written(bench, "smtp", {"token": "old"})
    assert vault.renew(Session, "smtp", {"token": "new"}).token.reveal() == "new"
    assert stored(vault, "smtp") == {"token": "new"}


@pytest.mark.parametrize(("values", "code"), [({"port": "12"}, "TB-SEC-079"), ({"secret": "x"}, "TB-SEC-077")])
def test_a_value_that_does_not_fit_is_not_written(bench: Any, values: dict[str, str], code: str) -> None:
    """The file stays as it is."""
    vault = written(bench)
    with pytest.raises(VaultError, match=code):
        vault.renew(Session, "broker", values, "acme")
    assert stored(vault) == BEFORE


def test_a_section_that_is_missing_is_not_made(bench: Any) -> None:
    """A plugin renews what it was given."""
    vault = written(bench)
    with pytest.raises(VaultError, match="TB-SEC-074"):
        vault.renew(Session, "broker", {"token": "new"}, "absent")


def test_a_plugin_sees_its_renewed_secrets() -> None:
    """From then on, by category; a write that fails leaves the former object."""
    done: list[object] = []

    def write(category: str, values: Any) -> object:
        if values == {"token": "bad"}:
            raise VaultError("full")
        done.append((category, values))
        return "new object"

    secrets = PluginSecrets({"broker": "old object"}, write)
    assert (dict(secrets), len(secrets), repr(secrets)) == ({"broker": "old object"}, 1, "PluginSecrets(broker)")
    with pytest.raises(VaultError):
        secrets.renew("broker", token="bad")
    assert secrets["broker"] == "old object"
    assert secrets.renew("broker", token="t") == "new object"
    assert secrets["broker"] == "new object"
    assert done == [("broker", {"token": "t"})]
    with pytest.raises(PluginError, match="Secrets of smtp cannot be renewed here"):
        secrets.renew("smtp", token="t")
    with pytest.raises(PluginError):
        PluginSecrets({"broker": "x"}).renew("broker", token="t")
