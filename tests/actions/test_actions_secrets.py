"""The forms for secrets: fields and what is stored, and the test of a stored login."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tbot_core.actions import secrets
from tbot_core.actions.secrets import FORMED, secret_forms
from tbot_core.actions.trials import try_stored_login
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import UsageError, VaultError
from tbot_core.instance import Instance
from tbot_core.instance import secrets as instance_secrets
from tbot_core.plugins import discovery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An instance that trades at Alpaca, at an address where nothing answers."""
    instance_secrets.forget_passphrases()
    vault = instance_secrets.open_instance_vault(Instance(tmp_path), DeploymentSettings())
    text = b"BROKER_NAME=ALPACA\nSTRATEGY_SEQUENCE=open\nHOST_ALPACA_PAPER=http://127.0.0.1:9\n"
    instance_secrets.encrypt_category(vault, "env_bot", text)
    yield tmp_path
    instance_secrets.forget_passphrases()


def test_the_forms_of_plugins_in_use_come_first(home: Path) -> None:
    """Each known plugin has one, and what is stored for none can be seen too."""
    secrets.put_values(home, "broker", {"ALPACA": {"key": "a-long-key", "api_secret": "a-long-secret"}})
    secrets.put_values(home, "broker", {"older": {"token": "a-long-token"}})
    forms = secret_forms(home, "broker")
    assert [(one.section, one.used) for one in forms][:2] == [("alpaca", True), ("ibkr", False)]
    mine = forms[0]
    assert mine.stored == {"api_key", "api_secret"}
    assert mine.unknown == ()
    older = next(one for one in forms if one.section == "older")
    assert (older.fields, older.unknown, older.used) == ((), ("token",), False)
    assert (mine.needs, older.needs) == ((), ())


def test_a_form_names_the_plugin_that_is_not_installed(home: Path) -> None:
    """Of each known one in a section of its own; an installed one has no such sentence."""
    installed = {it.entry.name for it in discovery.installed_plugins() if it.entry.kind == "broker"}
    needs = {one.section: bool(one.needs) for one in secret_forms(home, "broker")}
    assert needs == {name: name not in installed for name in ("alpaca", "ibkr", "tradier")}


def test_a_category_of_one_object_has_one_form(home: Path) -> None:
    """With the plugins that read it."""
    (form,) = secret_forms(home, "smtp")
    assert (form.section, form.readers, form.used, form.stored) == ("", ("email",), False, frozenset())
    assert "host" in {one.name for one in form.fields}
    assert {"env", "env_bot", "login"} & set(FORMED) == set()


def test_a_stored_login_is_tried_with_what_is_stored(home: Path) -> None:
    """At the address of the settings, in the mode of the credentials."""
    with pytest.raises(VaultError):
        try_stored_login(home, "alpaca")
    given = {"api_key": "a-long-key", "api_secret": "a-long-secret"}
    secrets.put_values(home, "broker", {"alpaca": given})
    step, live = try_stored_login(home, "alpaca", actor="web/alice")
    assert step is not None
    assert (step.passed, live) == (False, False)
    assert not any(value in step.words for value in given.values())
    with pytest.raises(UsageError, match="is not installed"):
        try_stored_login(home, "nobody")
