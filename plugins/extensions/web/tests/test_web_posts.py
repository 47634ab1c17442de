"""Forms are made after a question, once, and answered by a page that a reload only shows."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs
import pytest
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.access.logins import Session
from tbot_extension_web.notices import KEPT_S, MOST_ANSWERS, MOST_FORMS, Answers, KeptAnswer, SentForms
from tbot_extension_web.routes import ROUTES
from tbot_extension_web.site import FOLDER
from tbot_extension_web.testing.client import Answer, ask, ask_once
from tbot_extension_web.testing.given_sessions import CSRF, STEPPED_UP

from tbot_core.model.clock import ManualClock

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp
    from tbot_extension_web.routes import WebRoute

ANNA = Session(id=1, user="anna", role=Role.ADMIN, csrf="of anna", stepped_up=False)
PAGE = KeptAnswer(path="/risk", template="message.html", code=400, values={"title": "Not done"})
OF_SESSIONS = [one for one in ROUTES if one.method == "POST" and one.path not in {"/login", "/first-run"}]
ADMIN = {"cookie": f"tbot-session={STEPPED_UP}"}


def clock() -> ManualClock:
    """A clock that a test moves."""
    return ManualClock(datetime(2026, 11, 24, 15, 0, tzinfo=UTC))


def post(app: ASGIApp, path: str, **fields: str) -> Answer:
    """Send a form; the answer as the browser gets it."""
    return ask_once(app, "POST", path, ADMIN, {"csrf": CSRF, **fields})


def shown(app: ASGIApp, answer: Answer) -> Answer:
    """The page to which the answer leads."""
    return ask(app, "GET", answer.headers["location"], ADMIN)


@pytest.mark.parametrize("route", OF_SESSIONS, ids=lambda one: one.name)
def test_each_form_of_a_session_leads_to_a_page(app: ASGIApp, route: WebRoute) -> None:
    """Also where it is refused: a reload sends nothing. What does not exist is answered at once."""
    answer = post(app, re.sub(r"\{\w+\}", "x", route.path), sure="yes")
    assert answer.status in {303, 404}
    if answer.status == 303:
        assert shown(app, answer).status != 405


@pytest.mark.usefixtures("sealed")
def test_what_is_shown_once_is_there_for_a_reload_until_it_is_kept(app: ASGIApp) -> None:
    """The token of /metrics: a reload shows the same one, no other session does, and a press forgets it."""
    led = post(app, "/secrets/metrics-token", once="1" * 32)
    token = re.search(r'<code class="long">(\w+)', shown(app, led).text)
    assert token is not None
    assert token[1] in shown(app, led).text
    others = ask(app, "GET", led.headers["location"], {"cookie": "tbot-session=viewer"})
    assert (others.status, token[1] in others.text) == (303, False)
    assert post(app, "/answer/forget", next="/secrets").headers["location"] == "/secrets"
    assert shown(app, led).headers["location"] == "/secrets/metrics-token"
    assert post(app, "/answer/forget", next="//evil.example").headers["location"] == "/"


@pytest.mark.usefixtures("sealed")
def test_a_form_counts_once(app: ASGIApp) -> None:
    """Sent again, it makes no other keys and says when it was made; the next form counts."""
    first = shown(app, post(app, "/secrets/rotate", once="a" * 32)).text
    again = ask(app, "GET", "/secrets", ADMIN)
    post(app, "/secrets/rotate", once="a" * 32)
    page = ask(app, "GET", "/secrets", ADMIN).text
    assert "the id of its key is now" in first
    assert "This form was sent at 10:00:00 already" in page
    keys = [re.findall(r"<td[^>]*><code>(\w+)</code>", text) for text in (again.text, page)]
    assert keys[0] == keys[1] != []
    assert "the id of its key is now" in shown(app, post(app, "/secrets/rotate", once="b" * 32)).text


@pytest.mark.parametrize(("path", "button"), [("/risk/kill", "Kill now"), ("/risk/stop", "Stop now")])
def test_what_costs_money_is_asked_first(app: ASGIApp, sealed: Path, path: str, button: str) -> None:
    """The question says what it does and has the button that does it; until then there is no request."""
    page = shown(app, post(app, path)).text
    assert button in page
    assert "Open now: no position." in page
    assert 'name="sure" value="yes"' in page
    assert not [*(sealed / "control").glob("*")]
    assert "next start" in shown(app, post(app, path, sure="yes")).text


def test_forms_that_must_not_be_repeated_have_a_number() -> None:
    """Those of requests to the bot, of keys, tokens and users, of tests and runs."""
    texts = [path.read_text("utf-8") for path in FOLDER.joinpath("templates").rglob("*.html")]
    forms = [form for text in texts for form in re.findall(r"<form method=\"post\".*?</form>", text, re.DOTALL)]
    for action in ("/secrets/rotate", "/secrets/metrics-token", "/users/add", "/alerts/test", "/runs", "/runs/import"):
        found = [one for one in forms if f'action="{action}"' in one]
        assert found
        assert all('name="once"' in one for one in found)
    asked = next(one for one in forms if 'action="{{ action }}"' in one)
    risk = next(one for one in forms if 'action="{{ act.path }}"' in one)
    assert 'name="once"' in asked
    assert 'name="once"' in risk


def test_answers_are_kept_for_some_minutes_and_for_their_session() -> None:
    """Then, and beyond a number of them, they are gone."""
    time = clock()
    answers = Answers(time)
    number = answers.keep(ANNA, PAGE)
    assert answers.read(ANNA, number) == PAGE
    assert answers.read(attrs.evolve(ANNA, csrf="renewed"), number) == PAGE
    assert answers.read(attrs.evolve(ANNA, id=2), number) is None
    time.advance(KEPT_S)
    assert answers.read(ANNA, number) is None
    oldest = answers.keep(ANNA, PAGE)
    for _ in range(MOST_ANSWERS):
        answers.keep(ANNA, PAGE)
    assert answers.read(ANNA, oldest) is None


def test_forms_that_were_sent_do_not_pile_up() -> None:
    """The oldest are forgotten; another session has numbers of its own."""
    sent = SentForms(clock())
    assert sent.sent_before(ANNA, "x") is None
    assert sent.sent_before(ANNA, "x") == clock().now()
    assert sent.sent_before(attrs.evolve(ANNA, id=2), "x") is None
    for number in range(MOST_FORMS):
        sent.sent_before(ANNA, f"{number}")
    assert sent.sent_before(ANNA, "x") is None
