"""`tbot confirm`: what waits, which answers are refused, and what came of one."""

from __future__ import annotations

import datetime as dt
import json
import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core import cli
from tbot_core.actions.control_requests import RequestResult
from tbot_core.actions.operator_requests import ConfirmationOutcome
from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import ConfirmationAsked, SignalDecided
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.clock import SystemClock
from tbot_core.model.reasons import Reason
from tbot_core.testing.trades import order, proposal
from tbot_core.trading.commands import Decision

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.journal.codec import Payload

MINUTE = dt.timedelta(minutes=1)


def asked(name: str, symbol: str, expires: dt.datetime) -> Payload:
    """A question."""
    decision = Decision(proposal=proposal(symbol), reason=Reason.ALLOWED, order=order(symbol=symbol))
    return codec.write(ConfirmationAsked.asked(name, decision, expires))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance whose journal holds an entry that waits, one that was decided, and one that has expired."""
    create_demo_instance(tmp_path)
    now = SystemClock().now()
    decided = codec.write(SignalDecided.of(Decision(proposal=proposal("BBB"), reason=Reason.HALTED)))
    lines = [
        (records.CONFIRMATION_ASKED, asked("aaaa", "AAA", now + 30 * MINUTE)),
        (records.CONFIRMATION_ASKED, asked("bbbb", "BBB", now + 30 * MINUTE)),
        (records.CONFIRMATION_ASKED, asked("cccc", "CCC", now - MINUTE)),
        (records.DECISION, decided),
    ]
    (tmp_path / "data").mkdir()
    with closing(open_journal(tmp_path / "data" / "tbot.sqlite")) as journal:
        journal.append([NewEvent(kind=kind, payload=payload, time=now) for kind, payload in lines])
    return tmp_path


def test_what_waits_is_listed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its id, for a person and for machines; `tbot status` counts it."""
    assert cli.invoke(["confirm", "--home", str(home)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("aaaa     [OPEN] BUY 100 AAA @ about 100.00, until ")
    assert cli.invoke(["confirm", "--home", str(home), "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["waiting"]
    assert (one["id"], one["price"]) == ("aaaa", "100.0")
    cli.invoke(["status", "--home", str(home)])
    assert "1 entry to confirm: `tbot confirm`" in capsys.readouterr().out


def test_where_nothing_waits_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where nothing has run yet; without an instance it is refused."""
    assert cli.invoke(["confirm", "--home", str(tmp_path)]) == 3
    create_demo_instance(tmp_path)
    assert cli.invoke(["confirm", "--home", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "No entry needs a confirmation.\n"


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["zzzz"], "No entry of this session has the ID zzzz.", 2),
        ([""], "An argument '' is empty.", 2),
        (["--reject"], "--reject needs the ID of an entry.", 2),
        (["bbbb"], "The entry bbbb is decided already: [OPEN] BUY 100 BBB @ about 100.00, HALTED.", 5),
        (["cccc"], "The entry cccc expired at", 5),
    ],
)
def test_what_does_not_wait_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str, code: int
) -> None:
    """An unknown id is wrong usage; what is over is refused, and no request is left behind."""
    assert cli.invoke(["confirm", *words, "--home", str(home)]) == code
    assert said in capsys.readouterr().err
    assert control.read_folder(home / "control").requests == ()


def test_an_answer_without_a_bot_is_kept_and_says_until_when(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It lies there with its id; a bot that starts in time obeys it."""
    assert cli.invoke(["confirm", "aaaa", "--reject", "--home", str(home)]) == 1
    assert re.search(
        r"No bot is running\. The rejection is kept: a bot that starts before \d\d:\d\d:\d\d New York acts on it",
        capsys.readouterr().out,
    )
    (request,) = control.read_folder(home / "control").requests
    assert (request.verb, request.arguments) == (ControlVerb.REJECT, {"id": "aaaa"})


def test_a_rejection_takes_back_a_confirmation_that_waits_for_a_bot_and_not_the_other_way_round(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list shows what is kept, `tbot status` no longer counts it, and an answer that changes nothing is refused."""

    def said(*words: str, code: int) -> str:
        assert cli.invoke(["confirm", *words, "--home", str(home)]) == code
        captured = capsys.readouterr()
        return captured.out + captured.err

    assert "The confirmation is kept" in said("aaaa", code=1)
    assert re.search(r"\(.* New York.*\); confirm by \S+, waits for a bot\n", said(code=0))
    cli.invoke(["status", "--home", str(home)])
    assert "to confirm" not in capsys.readouterr().out
    assert "The entry aaaa was confirmed by" in said("aaaa", code=5)
    assert "The rejection is kept" in said("aaaa", "--reject", code=1)
    assert "The entry aaaa was rejected by" in said("aaaa", code=5)
    assert "The entry aaaa was rejected by" in said("aaaa", "--reject", code=5)
    assert control.read_folder(home / "control").answers["aaaa"].verb is ControlVerb.REJECT


TAKEN = RequestResult(verb=ControlVerb.CONFIRM, process=7, taken=True)


def test_an_answer_says_what_was_sent_where_that_is_less_than_what_was_asked() -> None:
    """An entry that was confirmed before it has taken its part of the budget."""
    entry = asked("aaaa", "AAA", SystemClock().now())
    decision = {**entry, "price": 101.0, "sizing": {"quantity": "40", "bound": "WEIGHTS"}}
    outcome = ConfirmationOutcome(answer=TAKEN, entry=entry, decision=decision)
    assert outcome.sentence == (
        "Confirmed, checked again and sent: [OPEN] BUY 40 AAA @ about 101.00. 100 were asked for; WEIGHTS allows no"
        " more now."
    )


@pytest.mark.parametrize(
    ("answer", "reason", "words", "code"),
    [
        (TAKEN, "ALLOWED", "Confirmed, checked again and sent: [OPEN] BUY 100 AAA @ about 100.00.", 0),
        (TAKEN, "MAX_TRADES", "Not sent: [OPEN] BUY 100 AAA @ about 100.00. MAX_TRADES: ", 5),
        (TAKEN, None, "The answer was accepted and is not decided yet: ", 1),
        (attrs.evolve(TAKEN, taken=False), None, "has not recorded the request", 1),
        (attrs.evolve(TAKEN, verb=ControlVerb.REJECT), "CONFIRMATION_REJECTED", "Rejected: [OPEN] BUY 100 AAA", 0),
        (attrs.evolve(TAKEN, verb=ControlVerb.REJECT), "ALLOWED", "Confirmed, checked again and sent:", 5),
    ],
)
def test_what_came_of_an_answer_is_said(answer: RequestResult, reason: str | None, words: str, code: int) -> None:
    """By the journal's decision, for the first and the second."""
    decision: dict[str, Any] | None = None if reason is None else {"reason": reason}
    outcome = ConfirmationOutcome(answer=answer, entry=asked("aaaa", "AAA", SystemClock().now()), decision=decision)
    assert words in outcome.sentence
    assert outcome.code == code
