"""The settings on the page: shown, reviewed with their effect, saved once and only as they were reviewed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from tbot_extension_web.testing.client import ask
from tbot_extension_web.testing.given_sessions import CSRF, RIGHT, STEPPED_UP

from tbot_core.actions.config import stored_config
from tbot_core.instance import Instance
from tbot_core.vault.audit_log import log_entries, log_path

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp
    from tbot_extension_web.testing.client import Answer

pytestmark = pytest.mark.usefixtures("sealed")


def get(app: ASGIApp, path: str, role: str = "admin") -> Answer:
    """The page as a role sees it."""
    return ask(app, "GET", path, {"cookie": f"tbot-session={role}"})


def send(app: ASGIApp, path: str, role: str = "admin", **fields: Any) -> Answer:
    """Send a form with these settings, and other fields under `form`."""
    form = {"csrf": CSRF, "group": "risk", **fields.pop("form", {})}
    return ask(app, "POST", path, {"cookie": f"tbot-session={role}"}, form | {f"set.{k}": v for k, v in fields.items()})


def version(app: ASGIApp) -> dict[str, str]:
    """The version of the settings as a form has it."""
    found = re.search(r'name="version" value="(\w+)"', get(app, "/settings/risk").text)
    assert found is not None
    return {"version": found[1]}


def stored(home: Path) -> str:
    """The file as it is."""
    return stored_config(home).text.decode()


def test_the_groups_and_their_settings_are_shown(app: ASGIApp) -> None:
    """With value, source, default, explanation and what is allowed; a viewer gets no form."""
    assert 'href="/settings/risk"' in get(app, "/settings").text
    page = get(app, "/settings/risk").text
    assert "Largest number of orders that a strategy window sends." in page
    assert "Allowed: a whole number from 0 to 1000. Default: 4. Now: 3, from .env_bot.enc:4." in page
    assert "/settings/review" in page
    assert "/settings/review" not in get(app, "/settings/risk", "viewer").text
    assert get(app, "/settings/nothing").status == 404


def test_a_search_finds_settings_by_name_and_by_words(app: ASGIApp) -> None:
    """Those with the words in their name come first; nothing found says what to do."""
    page = get(app, "/settings?q=daily+loss").text
    assert page.index("DAILY_LOSS_LIMIT") < page.index("Loss of the session")
    assert "No setting has these words" in get(app, "/settings?q=zebra").text
    assert "Only the first 60" in get(app, "/settings?q=a").text


def test_a_review_saves_nothing_and_shows_the_effect(app: ASGIApp, sealed: Path) -> None:
    """Each change with its effect, and when it takes effect."""
    before = stored(sealed)
    page = send(app, "/settings/review", DAILY_LOSS_LIMIT="0.0001", MAX_TRADES="3", form=version(app)).text
    assert "USD less a day" in page
    assert "at the next start of the bot" in page
    assert "planned worst day" in page
    assert "disarm" not in page  # nothing is armed on paper
    assert "set.MAX_TRADES" not in page  # it has the value already
    assert stored(sealed) == before
    assert "No setting differs" in send(app, "/settings/review", MAX_TRADES="3").text


def test_a_saved_change_is_in_the_file(app: ASGIApp, sealed: Path) -> None:
    """Only its line differs."""
    answer = send(app, "/settings/save", MAX_TRADES="2", form=version(app))
    assert (answer.status, answer.headers["location"]) == (303, "/settings/risk?saved=MAX_TRADES")
    assert stored(sealed) == "# mine\nBROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=open\nMAX_TRADES=2\n"
    assert "Saved: MAX_TRADES." in get(app, answer.headers["location"]).text


@pytest.mark.slow
def test_a_change_that_permits_more_needs_the_password_again(app: ASGIApp, sealed: Path) -> None:
    """On the page of the review itself; with the right one the change is saved, and no other is allowed by it."""
    form = version(app)
    before = stored(sealed)
    assert "Your password" in send(app, "/settings/review", MAX_TRADES="4", form=form).text
    for password in ("", "wrong"):
        refused = send(app, "/settings/save", MAX_TRADES="4", form={**form, "password": password})
        assert (refused.status, "Wrong." in refused.text, stored(sealed)) == (401, True, before)
    saved = send(app, "/settings/save", MAX_TRADES="4", form={**form, "password": RIGHT})
    assert saved.status == 303
    assert saved.cookies == ()
    assert "MAX_TRADES=4" in stored(sealed)
    assert send(app, "/settings/save", STEPPED_UP, MAX_OPEN_POSITIONS="6", form=version(app)).status == 303
    assert send(app, "/settings/save", MAX_TRADES="2", form=version(app)).status == 303
    lines = [(it.actor, it.outcome) for it in log_entries(log_path(Instance(sealed))) if ": MAX_" in it.outcome]
    assert lines == [
        ("web/a-admin", "begun: MAX_TRADES 3 -> 4; with the password"),
        ("web/a-admin", "begun: MAX_OPEN_POSITIONS 5 -> 6; with the password"),
        ("web/a-admin", "begun: MAX_TRADES 4 -> 2; without the password"),
    ]


def test_a_review_shows_beside_each_change_whether_it_needs_the_password(app: ASGIApp) -> None:
    """With the reason in a sentence; one that restricts has none, and the password is asked for once."""
    form = version(app)
    page = send(app, "/settings/review", MAX_TRADES="2", TRADE_CONFIRMATION_REQUIRED="true", form=form).text
    assert ("Needs your password" in page, "Your password" in page) == (False, False)
    changed = {"MAX_TRADES": "2", "ENABLE_LOGGING": "false", "FRACTIONAL_UNPROTECTED": "true"}
    page = send(app, "/settings/review", form=form, **changed).text
    reasons = re.findall(
        r"<strong>(\w+)</strong><br>(?:(?!<li>).)*Needs your password:</strong> ([^<]+)<", page, re.DOTALL
    )
    assert reasons == [
        ("ENABLE_LOGGING", "No log files are kept."),
        ("FRACTIONAL_UNPROTECTED", "A position may have no stop at the broker."),
    ]
    assert page.count("Your password") == 1
    assert "counts for this change too" in send(app, "/settings/review", STEPPED_UP, form=form, **changed).text


@pytest.mark.slow
def test_what_the_next_start_would_refuse_is_shown_and_not_saved(app: ASGIApp, sealed: Path) -> None:
    """With what the start would say, by review and save, with the password or without."""
    before = stored(sealed)
    for role, path in (("admin", "/settings/review"), (STEPPED_UP, "/settings/save")):
        answer = send(app, path, role, CRITICAL_ALERT_CHANNEL="pagerduty", form=version(app))
        assert (answer.status, "The next start would fail: TB-SEC-051 alert" in answer.text) == (400, True)
        answer = send(app, path, role, BROKER_NAME="nobody", form=version(app))
        assert (answer.status, "no broker nobody is installed" in answer.text) == (400, True)
        answer = send(app, path, role, CRITICAL_ALERT_CHANNEL="", form=version(app))
        assert (answer.status, "allowed is names separated by commas" in answer.text) == (400, True)
    assert stored(sealed) == before


def test_faults_are_shown_at_their_fields(app: ASGIApp, sealed: Path) -> None:
    """With what was typed; nothing is saved, neither by the review nor by the last step."""
    before = stored(sealed)
    for path in ("/settings/review", "/settings/save"):
        answer = send(app, path, MAX_TRADES="<many>", form=version(app))
        assert answer.status == 400
        assert "allowed is a whole number" in answer.text
        assert 'value="&lt;many&gt;"' in answer.text
    assert stored(sealed) == before


def test_a_form_of_before_another_change_saves_nothing(app: ASGIApp, sealed: Path) -> None:
    """The page says so."""
    old = version(app)
    send(app, "/settings/save", MAX_TRADES="2", form=old)
    answer = send(app, "/settings/save", MAX_OPEN_POSITIONS="1", form=old)
    assert (answer.status, "changed since the form was opened" in answer.text) == (400, True)
    assert "MAX_OPEN_POSITIONS" not in stored(sealed)


def test_other_fields_of_a_form_change_nothing(app: ASGIApp, sealed: Path) -> None:
    """Unknown names, and settings that name files."""
    before = stored(sealed)
    for name in ("NOT_A_SETTING", "MAX_TRADES\nSEED"):
        assert "No setting differs" in send(app, "/settings/review", form=version(app), **{name: "1"}).text
    refused = send(app, "/settings/save", BROKER_KEY_PATH="elsewhere.key", form=version(app))
    assert (refused.status, "names a file" in refused.text) == (400, True)
    assert stored(sealed) == before


def test_plaintext_settings_can_be_encrypted_here(app: ASGIApp, sealed: Path) -> None:
    """Before that they are shown, without a form."""
    text = stored(sealed)
    (sealed / ".env_bot.enc").unlink()
    (sealed / ".env_bot").write_text(text)
    page = get(app, "/settings/risk").text
    assert "Encrypt the settings" in page
    assert "/settings/review" not in page
    assert send(app, "/settings/encrypt").status == 303
    assert stored(sealed) == text


def test_a_review_is_corrected_without_losing_what_was_entered(app: ASGIApp) -> None:
    """Its group is shown with the entered values; a form that is older than the settings is refused already here."""
    page = send(app, "/settings/review", MAX_TRADES="2", form={**version(app), "edit": "yes"}).text
    assert re.search(r'<input id="set-MAX_TRADES" name="set.MAX_TRADES" value="2"', page)
    assert "DAILY_LOSS_LIMIT" in page
    assert 'name="edit" value="yes">Correct it' in send(app, "/settings/review", MAX_TRADES="2").text
    old = send(app, "/settings/review", MAX_TRADES="2", form={"version": "of before"})
    assert (old.status, 'href="/settings/risk">Back' in old.text) == (400, True)


def test_what_a_search_has_changed_is_shown_in_its_group(app: ASGIApp) -> None:
    """Not in another one, where the change would not be seen."""
    answer = send(app, "/settings/save", MAX_TRADES="2", form={**version(app), "group": ""})
    assert answer.headers["location"] == "/settings/risk?saved=MAX_TRADES"
