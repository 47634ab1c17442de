"""The secrets on the page: written, removed, rotated, and never shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tbot_extension_web.access.metrics_token import MetricsToken
from tbot_extension_web.testing.client import ask
from tbot_extension_web.testing.given_sessions import CSRF, STEPPED_UP

from tbot_core.actions import secrets
from tbot_core.actions.secrets import FORMED, secret_forms
from tbot_core.instance import Instance
from tbot_core.testing.canaries import canary
from tbot_core.vault.audit_log import log_entries, log_path

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp
    from tbot_extension_web.testing.client import Answer
    from tbot_extension_web.testing.given_sessions import GivenSessions

pytestmark = pytest.mark.usefixtures("sealed")
KEY, SECRET = canary("web key"), canary("web secret")


def get(app: ASGIApp, path: str, role: str = STEPPED_UP) -> Answer:
    """The page as a role sees it."""
    return ask(app, "GET", path, {"cookie": f"tbot-session={role}"})


def send(app: ASGIApp, path: str, **fields: str) -> Answer:
    """Send a form; names with `__` are those with a dot."""
    form = {name.replace("__", "."): text for name, text in fields.items()}
    return ask(app, "POST", path, {"cookie": f"tbot-session={STEPPED_UP}"}, {"csrf": CSRF, **form})


def answer_to(app: ASGIApp, path: str, **fields: str) -> Answer:
    """Send a form, and open the page that it leads to."""
    return get(app, send(app, path, **fields).headers["location"])


def stored(home: Path, category: str = "broker") -> set[str]:
    """The stored names of Alpaca's section, or of the category."""
    forms = secret_forms(home, category)
    return set(next(one for one in forms if one.section in {"", "alpaca"}).stored)


@pytest.mark.slow
def test_what_is_written_is_stored_and_not_shown(app: ASGIApp, sealed: Path) -> None:
    """Neither in the answers nor in the pages, not even its length; the log names the user."""
    answer = send(app, "/secrets/broker", section="alpaca", field__api_key=KEY, field__api_secret=SECRET)
    assert (answer.status, answer.headers["location"]) == (303, "/secrets/broker?saved=alpaca")
    assert stored(sealed) == {"api_key", "api_secret"}
    pages = [get(app, path).text for path in (answer.headers["location"], "/secrets", "/settings")]
    assert "Saved: alpaca." in pages[0]
    assert "Remove all that is stored of alpaca" in pages[0]
    assert "Remove account_id" not in pages[0]
    assert not any(KEY in page or SECRET in page or str(len(KEY)) + " char" in page for page in pages)
    writes = [it for it in log_entries(log_path(Instance(sealed))) if it.action == "write"]
    assert (writes[-1].actor, writes[-1].category) == ("web/a-admin", "broker")


def test_an_empty_field_stays_and_a_marked_one_goes(app: ASGIApp, sealed: Path) -> None:
    """A section without a field left is gone."""
    send(app, "/secrets/broker", section="alpaca", field__api_key=KEY, field__api_secret=SECRET, field__mode="live")
    send(app, "/secrets/broker", section="alpaca", field__api_key="another-key", remove__mode="yes")
    content = secrets.stored_content(sealed, "broker")
    assert content == {"alpaca": {"api_key": "another-key", "api_secret": SECRET}}
    send(app, "/secrets/broker", section="alpaca", remove__api_key="yes", remove__api_secret="yes")
    assert secrets.stored_content(sealed, "broker") == {}


def test_a_plugins_secrets_are_removed_together(app: ASGIApp, sealed: Path) -> None:
    """A field that must be given cannot be removed alone, so the form does not offer it."""
    send(app, "/secrets/broker", section="alpaca", field__api_key=KEY, field__api_secret=SECRET, field__mode="paper")
    page = get(app, "/secrets/broker").text
    assert ("Remove api_key" in page, "Remove mode" in page, "that is stored of alpaca" in page) == (False, True, True)
    send(app, "/secrets/broker", section="alpaca", **{"remove-all": "yes"})
    assert secrets.stored_content(sealed, "broker") == {}


def test_fields_that_are_not_declared_are_not_stored(app: ASGIApp, sealed: Path) -> None:
    """Nor sections that no plugin has; categories with pages of their own have no form."""
    send(app, "/secrets/broker", section="alpaca", field__api_key=KEY, field__api_secret=SECRET, field__other="x")
    assert stored(sealed) == {"api_key", "api_secret"}
    assert send(app, "/secrets/broker", section="nobody", field__api_key=KEY).status == 404
    for category in ("login", "env", "env_bot", "audit", "x"):
        assert get(app, f"/secrets/{category}").status == 404
        assert send(app, f"/secrets/{category}", field__hash="x").status == 404


def test_a_field_of_no_plugin_can_be_removed(app: ASGIApp, sealed: Path) -> None:
    """As one that an older file has; its value is not shown either."""
    secrets.put_values(sealed, "broker", {"older": {"token": KEY}})
    page = get(app, "/secrets/broker").text
    assert "Remove token" in page
    assert KEY not in page
    send(app, "/secrets/broker", section="older", remove__token="yes")
    assert secrets.stored_content(sealed, "broker") == {}


def test_what_is_not_allowed_is_named_without_the_value(app: ASGIApp, sealed: Path) -> None:
    """And nothing is stored; an empty form says that nothing changes."""
    answer = send(app, "/secrets/broker", section="alpaca", field__api_key=KEY)
    assert (answer.status, "alpaca.api_secret" in answer.text, KEY in answer.text) == (400, True, False)
    assert stored(sealed) == set()
    assert "Nothing was entered" in send(app, "/secrets/broker", section="alpaca").text


@pytest.mark.slow
def test_each_category_has_its_forms(app: ASGIApp, sealed: Path) -> None:
    """Also before the password is entered again: then only what is set; a viewer sees none of it."""
    secrets.put_values(
        sealed, "smtp", {"host": "mail.example.com"} | dict.fromkeys(("sender", "recipients"), "a@b.example")
    )
    for category in FORMED:
        assert get(app, f"/secrets/{category}").status == 200
    page = get(app, "/secrets/smtp", "admin").text
    assert "host: <strong>set</strong>" in page
    assert "mail.example.com" not in page
    assert 'name="field.host"' not in page
    assert get(app, "/secrets/smtp", "viewer").status == 403


def test_new_keys_leave_the_content_as_it_is(app: ASGIApp, sealed: Path) -> None:
    """The page names each category with its new key."""
    before = secrets.category_listings(sealed)
    page = answer_to(app, "/secrets/rotate").text
    after = secrets.category_listings(sealed)
    changed = [
        one.status.key_id for one, was in zip(after, before, strict=True) if one.status.key_id != was.status.key_id
    ]
    assert len(changed) == 2
    assert [key for key in changed if key is None or key not in page] == []
    assert "MAX_TRADES" in get(app, "/settings/risk").text
    assert "No rotation was in progress." in answer_to(app, "/secrets/rotate", resume="yes", category="env").text
    assert "No category has a key." in answer_to(app, "/secrets/rotate", category="smtp").text
    assert send(app, "/secrets/rotate", category="nothing").status == 404


def test_a_stored_login_can_be_tested(app: ASGIApp, sealed: Path) -> None:
    """The fault is shown without a value; nothing is asked of a broker that is unknown or not installed."""
    env = {"HOST_ALPACA_PAPER": "http://127.0.0.1:9"}  # nothing answers there
    secrets.put_values(sealed, "env_bot", env)
    send(app, "/secrets/broker", section="alpaca", field__api_key=KEY, field__api_secret=SECRET)
    page = send(app, "/secrets/broker/test", section="alpaca").text
    assert "Login at alpaca (paper):</strong> failed." in page
    assert KEY not in page
    assert "is not installed" in send(app, "/secrets/broker/test", section="ibkr").text
    assert send(app, "/secrets/broker/test", section="nobody").status == 404


def test_the_token_of_metrics_is_shown_once(app: ASGIApp, sealed: Path, logins: GivenSessions) -> None:
    """It is stored as a hash, replaced and removed, each recorded."""
    found = re.search(r'class="long">([0-9a-f]{64})<', send(app, "/secrets/metrics-token").text)
    assert found is not None
    token = MetricsToken(sealed, logins.security)  # type: ignore[arg-type]  # the log of these tests
    assert token.admits(f"Bearer {found[1]}")
    assert found[1] not in (sealed / "data" / "metrics.token").read_text()
    assert found[1] not in get(app, "/secrets").text
    send(app, "/secrets/metrics-token")
    assert not token.admits(f"Bearer {found[1]}")
    send(app, "/secrets/metrics-token/remove")
    send(app, "/secrets/metrics-token/remove")
    assert not token.exists
    assert [what for _, what in logins.security.lines][-1] == "account token of metrics: removed"
    assert len(logins.security.lines) == 3
