"""The access log, the chains, the lines of the log, and the figures for a monitoring system."""

from __future__ import annotations

import datetime as dt
import json
import re
from contextlib import closing
from html import unescape
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tbot_extension_web.access.metrics_token import MetricsToken
from tbot_extension_web.access.security_log import SecurityLog, note_request
from tbot_extension_web.site import FOLDER, Badge
from tbot_extension_web.testing.client import ask
from tbot_extension_web.testing.given_sessions import CSRF, STEPPED_UP

from tbot_core.actions import secrets
from tbot_core.actions.audit import MOST_BYTES
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance
from tbot_core.instance.journal_chain import note_head, open_instance_journal
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.instance.sources import keep_opened_settings
from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import ConfirmationAsked
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.reasons import Reason
from tbot_core.testing.trades import order, proposal
from tbot_core.trading.commands import Decision
from tbot_core.vault.audit_log import log_entries, log_path

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from tbot_extension_web.site import Site
    from tbot_extension_web.testing.client import Answer
    from tbot_extension_web.testing.given_sessions import GivenSessions


def get(app: ASGIApp, path: str, role: str = "admin", **headers: str) -> Answer:
    """The page as a role sees it."""
    return ask(app, "GET", path, {"cookie": f"tbot-session={role}", **headers})


def test_accesses_are_found_by_user_category_and_day(app: ASGIApp, sealed: Path) -> None:
    """The newest first; what was only read is shown on request."""
    secrets.put_values(sealed, "env_bot", {"SEED": "7"}, actor="web/bob")
    rows = get(app, "/audit?user=BOB").text
    assert ("web/bob" in rows, "<td>write</td>" in rows, "<td>decrypt</td>" in rows) == (True, True, False)
    assert "<td>decrypt</td>" in get(app, "/audit?reads=yes").text
    assert "web/bob" not in get(app, "/audit?category=login").text
    assert "web/bob" in get(app, "/audit?category=env_bot").text
    assert "No line fits" in get(app, "/audit?day=2001-01-01").text
    assert get(app, "/audit", "viewer").status == 200


def test_what_names_a_user_is_found_by_the_user_and_by_each_category_of_the_log(app: ASGIApp, sealed: Path) -> None:
    """A refused request and an addition name the user; of a longer name and of a word nothing is found."""
    vault = open_instance_vault(Instance(sealed), DeploymentSettings())
    security = SecurityLog(vault=vault)
    security.record("account", "alice", "addition of tim: trader")
    security.record("deny", "alice", "refused stop of web/tim, made today: the user was removed", category="control")
    security.record("account", "alice", "addition of timothy: trader")
    page = get(app, "/audit?user=Tim").text
    assert ("addition of tim:" in page, "refused stop of web/tim" in page, "timothy" in page) == (True, True, False)
    assert "No line fits" in get(app, "/audit?user=refuse").text
    offered = re.findall(r"<option(?: selected)?>([^<]+)</option>", page)
    assert {entry.category for entry in log_entries(log_path(Instance(sealed)))} <= set(offered)
    page = get(app, "/audit?category=control").text
    assert ("refused stop" in page, "addition" in page) == (True, False)


def test_a_request_to_the_bot_is_a_line_with_who_made_it(
    app: ASGIApp, sealed: Path, logins: GivenSessions, caplog: pytest.LogCaptureFixture
) -> None:
    """A log that cannot be written keeps no request from the bot."""
    ask(app, "POST", "/risk/kill", {"cookie": "tbot-session=admin"}, {"csrf": CSRF, "sure": "yes"})
    assert ("a-admin", "write requested kill") in logins.security.lines
    security = SecurityLog(vault=open_instance_vault(Instance(sealed), DeploymentSettings()))
    note_request(security, "tim", "stop")
    assert "requested stop" in get(app, "/audit?user=tim&category=control").text
    log_path(Instance(sealed)).write_text("not a log\n")
    note_request(security, "tim", "kill")
    assert "audit.request_not_written" in caplog.text


def test_an_older_journal_is_accepted_with_the_password(app: ASGIApp, sealed: Path) -> None:
    """By an admin, after what is known of the missing events; offered only while the journal is older."""
    instance = Instance(sealed)
    with closing(open_instance_journal(instance)) as journal:
        journal.append([NewEvent(kind="risk", payload={}, time=dt.datetime(2026, 1, 5, tzinfo=dt.UTC))])
        note_head(instance, journal.head)
    assert "Accept the journal" not in get(app, "/risk").text
    assert "<td>anchor</td>" not in get(app, "/audit").text
    for path in instance.data.glob("tbot.sqlite*"):
        path.unlink()
    assert "<h2>Accept the journal</h2>" in get(app, "/risk").text
    assert "<h2>Accept the journal</h2>" not in get(app, "/risk", "trader").text
    stepped, form = {"cookie": f"tbot-session={STEPPED_UP}"}, {"csrf": CSRF}
    assert ask(app, "POST", "/risk/accept-journal", {"cookie": "tbot-session=trader"}, form).status == 403
    question = ask(app, "POST", "/risk/accept-journal", stepped, form)
    while question.status == 303:
        question = get(app, question.headers["location"], STEPPED_UP)
    assert "perhaps a kill" in question.text
    assert not [one for one in log_entries(log_path(instance)) if one.action == "accept"]
    ask(app, "POST", "/risk/accept-journal", {"cookie": "tbot-session=admin"}, {**form, "sure": "yes"})
    assert not [one for one in log_entries(log_path(instance)) if one.action == "accept"]
    ask(app, "POST", "/risk/accept-journal", stepped, {**form, "sure": "yes"})
    (line,) = (one for one in log_entries(log_path(instance)) if one.action == "accept")
    assert line.actor.startswith("web/")
    assert "Accept the journal" not in get(app, "/risk", "viewer").text


def test_an_answer_to_an_entry_is_kept_and_a_line_that_names_it(
    app: ASGIApp, site: Site, sealed: Path, logins: GivenSessions
) -> None:
    """Without a bot: one that starts in time acts on it; the line has the entry's id, quantity and symbol."""
    now = site.clock.now()
    asked = codec.write(
        ConfirmationAsked.asked(
            "ab12",
            Decision(proposal=proposal("AAA"), reason=Reason.ALLOWED, order=order(symbol="AAA")),
            now + dt.timedelta(seconds=60),
        )
    )
    Instance(sealed).data.mkdir(parents=True, exist_ok=True)
    with closing(open_journal(Instance(sealed).data / "tbot.sqlite")) as journal:
        journal.append([NewEvent(kind=records.CONFIRMATION_ASKED, payload=asked, time=now)])
    cookie = {"cookie": "tbot-session=admin"}
    answer = ask(app, "POST", "/confirmations/approve", cookie, {"csrf": CSRF, "id": "ab12"})
    assert (answer.status, answer.headers["location"]) == (303, "/confirmations")
    assert ("a-admin", f"write requested confirm ab12, {asked['quantity']} AAA") in logins.security.lines
    page = get(app, "/confirmations").text
    assert "The confirmation is kept: a bot that starts before" in page
    assert "No bot is running. An answer is kept" in page
    assert re.search(r"Approved by web/\S+, and kept for a bot", page)
    assert "/confirmations/reject" in page
    assert "/confirmations/approve" not in page
    assert "<title>(" not in page
    again = ask(app, "POST", "/confirmations/approve", cookie, {"csrf": CSRF, "id": "ab12"})
    assert (again.status, "was confirmed by web/" in again.text) == (400, True)


@pytest.mark.parametrize(
    "path", ["/decisions?symbol=AAA", "/settings", "/plugins", "/secrets/broker", "/users", "/runs"]
)
def test_a_page_that_is_only_read_adds_no_line(app: ASGIApp, sealed: Path, path: str) -> None:
    """The settings were opened for an earlier page, and have not changed since."""
    with keep_opened_settings():
        get(app, path)
        before = log_path(Instance(sealed)).read_bytes()
        assert get(app, path).status < 500
        assert log_path(Instance(sealed)).read_bytes() == before


def test_the_chains_are_verified_on_request(app: ASGIApp, sealed: Path) -> None:
    """An intact one, and one that was changed."""

    def verify() -> str:
        return ask(app, "POST", "/audit/verify", {"cookie": "tbot-session=admin"}, {"csrf": CSRF}).text

    assert "Every chain is intact." in verify()
    file = log_path(Instance(sealed))
    file.write_bytes(file.read_bytes().replace(b'"write"', b'"wrote"', 1))
    page = verify()
    assert "A chain is damaged." in page
    assert "TB-SEC-" in page


def test_lines_of_the_log_are_shown_by_level(app: ASGIApp, sealed: Path) -> None:
    """Text is text; the log of the page is an admin's."""
    for folder, event in (("logs", "<b>of the bot</b>"), ("logs/web", "of the page")):
        (sealed / folder).mkdir(parents=True, exist_ok=True)
        line = f'{{"timestamp": "2026-11-24T15:00:00.1Z", "level": "warning", "event": "{event}", "n": 1}}\n'
        (sealed / folder / "tbot.log").write_text(f'{{"timestamp": "when", "level": "info", "event": "calm"}}\n{line}')
    page = get(app, "/logs", "viewer").text
    assert "&lt;b&gt;of the bot&lt;/b&gt;" in page
    assert ("2026-11-24 10:00:00" in page, "n=1" in page, "calm" in page) == (True, True, True)
    assert "calm" not in get(app, "/logs?level=error").text + get(app, "/logs?level=warning").text
    assert "of the page" in get(app, "/logs?of=page").text
    assert "of the page" not in get(app, "/logs?of=page", "trader").text
    assert "calm" in get(app, "/logs?level=nothing").text


def access_line(number: int) -> str:
    """A line of the access log: one a minute from a morning in March on."""
    moment = dt.datetime(2026, 3, 2, 15, tzinfo=dt.UTC) + dt.timedelta(minutes=number)
    line = {"seq": number, "utc": moment.isoformat(), "monotonic": 1.0, "actor": f"web/user-{number % 7}"}
    return json.dumps(line | {"action": "write", "category": "env_bot", "key_id": "k", "outcome": f"line {number}"})


def write_logs(home: Path, count: int) -> None:
    """Both logs with so many lines."""
    log_path(Instance(home)).write_text("".join(f"{access_line(number)}\n" for number in range(count)))
    (home / "logs").mkdir(exist_ok=True)
    line = '{"timestamp": "2026-11-24T15:00:00Z", "level": "info", "event": "line %d"}\n'
    (home / "logs" / "tbot.log").write_text("".join(line % number for number in range(count)))


def bytes_read() -> int:
    """What this process has read up to now, as the kernel counts it."""
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "/audit",
        "/audit?user=user-3",
        "/audit?day=2026-03-03",
        "/audit?user=nobody",
        "/logs",
        "/logs?level=error",
    ],
)
def test_a_big_log_costs_no_more_than_a_small_one(app: ASGIApp, sealed: Path, path: str) -> None:
    """What a page reads is bounded, also where nothing fits and where a day of long ago is asked for."""
    costs = {}
    for count in (4_000, 40_000):
        write_logs(sealed, count)
        get(app, path)
        before = bytes_read()
        assert get(app, path).status == 200
        costs[count] = bytes_read() - before
    assert log_path(Instance(sealed)).stat().st_size > 6 * MOST_BYTES
    assert costs[40_000] <= max(costs[4_000], MOST_BYTES) + 300_000, costs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("/audit?user=user-3", r"line (\d+)</td>", range(3, 4_000, 7)),
        ("/audit?day=2026-03-03", r"line (\d+)</td>", range(840, 2_280)),
        ("/logs?level=info", r"<strong>line (\d+)</strong>", range(4_000)),
    ],
)
def test_the_pages_of_a_log_have_each_line_once(
    app: ASGIApp, sealed: Path, path: str, pattern: str, expected: range
) -> None:
    """Each leads to that of the lines before, and back; the first page is a link away, and the ends lead no further."""
    write_logs(sealed, 4_000)
    place, page = path.partition("?")[0], get(app, path).text
    newest = list(map(int, re.findall(pattern, page)))
    pages = [newest]

    def step(words: str) -> bool:
        nonlocal page
        link = re.search(rf'<a class="button" href="([^"]+)"[^>]*>{words}</a>', page)
        page = page if link is None else get(app, f"{place}{unescape(link[1])}").text
        return link is not None

    while step("Older lines"):
        pages.append(list(map(int, re.findall(pattern, page))))
    assert list(chain.from_iterable(pages)) == list(reversed(expected))
    for seen in reversed(pages[:-1]):
        assert step("Newer lines")
        assert list(map(int, re.findall(pattern, page))) == seen
    assert not step("Newer lines")
    while step("Older lines"):
        pass
    assert step("The newest") == (len(pages) > 2)
    assert not pages[2:] or list(map(int, re.findall(pattern, page))) == newest


@pytest.mark.parametrize("path", ["/audit?before=x&day=today", "/logs?before=-1", "/logs?before=99999999999999999999"])
def test_a_place_that_is_none_is_the_end(app: ASGIApp, sealed: Path, path: str) -> None:
    """What is no number, or far behind the end, shows the newest lines."""
    write_logs(sealed, 300)
    assert "line 299" in get(app, path).text


def test_figures_are_given_for_the_token_alone(app: ASGIApp, sealed: Path, logins: GivenSessions) -> None:
    """Without a token configured there is no such page; a session of the page is no token."""
    assert get(app, "/metrics", authorization="Bearer x").status == 404
    token = MetricsToken(sealed, logins.security).make("alice")  # type: ignore[arg-type]  # the log of these tests
    for given in ("", "Bearer", "Bearer x", f"Basic {token}", token, f"Bearer {token}x"):
        answer = get(app, "/metrics", authorization=given)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    answer = get(app, "/metrics", "", authorization=f"Bearer {token}")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "tbot_running 0\n" in answer.text
    assert "tbot_build_info{version=" in answer.text


def test_figures_that_cannot_be_read_are_not_invented(app: ASGIApp, logins: GivenSessions, site: Site) -> None:
    """The monitoring system gets an error, without the reason."""
    site.home.mkdir()
    token = MetricsToken(site.home, logins.security).make("alice")  # type: ignore[arg-type]  # the log of these tests
    (site.home / ".env_bot").write_text("MAX_TRADES=many\n")
    answer = get(app, "/metrics", authorization=f"Bearer {token}")
    assert (answer.status, "many" in answer.text) == (503, False)


def test_audit_and_logs_of_a_rehearsal_say_which_clock_they_show(site: Site) -> None:
    """That of the machine, as the day that is rehearsed has another; otherwise there is one, and nothing is said."""
    words = site.templates.get_template("parts/which_clock.html")
    assert "clock of this machine" in words.render(badge=Badge(mode="rehearsal", identity=""))
    assert words.render(badge=Badge(mode="paper", identity="")).strip() == ""
    for name in ("audit", "logs"):
        source = (FOLDER / "templates" / f"{name}.html").read_text()
        assert '{% include "parts/which_clock.html" %}' in source
