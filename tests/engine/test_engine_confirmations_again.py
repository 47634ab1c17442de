"""A restart takes up what was asked and answered; a confirmed entry is weighed by the gate as it is then."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.engine.control import ControlRequest, ControlVerb
from tbot_core.engine.session.confirmations import ConfirmationQueue
from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import SignalDecided
from tbot_core.journal.store import Journal, JournalRecorder, NewEvent, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Leg, RiskState, SignalId, atoms_of
from tbot_core.testing.trades import proposal, rules, session
from tbot_core.trading.decision_engine import DecisionEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.trading.commands import Decision
    from tbot_core.trading.proposals import Proposal

ASKED = session().moment(26)
SOON = ASKED + dt.timedelta(seconds=10)


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value} {attempt}"


def renewed(old: Proposal) -> Proposal:
    """The same at the same price, a minute later."""
    return attrs.evolve(old, confirmed_minute=26)


class Bench:
    """A desk and what waits for a person, after whatever the journal holds."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        settings = rules(trade_confirmation_required=True, confirmation_timeout=60.0)
        self.clock = ManualClock(ASKED)
        self.desk = DecisionEngine(settings, session(), atoms_of(Decimal(100_000)), name)
        self.confirming = ConfirmationQueue(
            settings.entries, self.desk, JournalRecorder(journal=journal, clock=self.clock)
        )
        self.asked = self.confirming.restore(journal.events(), {"AAA": 0, "BBB": 1})

    def ask(self, *symbols: str) -> None:
        """Signals come."""
        asked, denied = self.confirming.hold_for_confirmation([proposal(symbol) for symbol in symbols])
        assert not denied
        self.confirming.request_confirmation(asked)

    def answer(self, symbol: str, verb: ControlVerb = ControlVerb.CONFIRM, made: dt.datetime = SOON) -> None:
        """A person answers; it is written down before it is obeyed."""
        questions = self.journal.events(kind=records.CONFIRMATION_ASKED)
        identity = next(one.payload["id"] for one in questions if one.payload["signal"]["symbol"] == symbol)
        request = ControlRequest(name="x.json", verb=verb, actor="ann", made=made, arguments={"id": identity})
        fields = {"name": "x.json", "verb": verb.value, "actor": "ann", "made": made.isoformat()}
        payload = fields | {"arguments": {"id": identity}}
        self.journal.append([NewEvent(kind=records.REQUEST, payload=payload, time=ASKED)])
        assert self.confirming.record_answer(request) == ""

    def decided(self) -> list[Decision]:
        """What is due, written down."""
        found = self.confirming.decide_answered(renewed)
        for one in found:
            self.journal.append(
                [NewEvent(kind=records.DECISION, payload=codec.write(SignalDecided.of(one)), time=ASKED)]
            )
        return found


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as opened:
        yield opened


def test_what_waited_before_a_restart_waits_on(journal: Journal) -> None:
    """It is not asked again, counts until its time, and then expires."""
    Bench(journal).ask("AAA", "BBB")
    again = Bench(journal)
    assert again.asked == {proposal(symbol).signal.text for symbol in ("AAA", "BBB")}
    assert again.decided() == []
    again.clock.advance_to(ASKED + dt.timedelta(seconds=60))
    assert [one.reason for one in again.decided()] == [Reason.CONFIRMATION_EXPIRED] * 2


def test_what_was_answered_before_a_restart_is_decided_once(journal: Journal) -> None:
    """Written down and not obeyed, it is obeyed now; what was decided is not decided again."""
    first = Bench(journal)
    first.ask("AAA", "BBB")
    first.answer("AAA")
    second = Bench(journal)
    assert [(one.proposal.signal.symbol, one.reason) for one in second.decided()] == [("AAA", Reason.ALLOWED)]
    second.answer("BBB", ControlVerb.REJECT)
    third = Bench(journal)
    assert [one.reason for one in third.decided()] == [Reason.CONFIRMATION_REJECTED]
    assert Bench(journal).decided() == []


def test_the_first_answer_counts(journal: Journal) -> None:
    """A second one and one of an unknown id change nothing."""
    bench = Bench(journal)
    bench.ask("AAA", "BBB")
    bench.answer("AAA", ControlVerb.REJECT)
    bench.answer("AAA")
    stray = ControlRequest(name="y.json", verb=ControlVerb.CONFIRM, actor="ann", made=SOON)
    assert bench.confirming.record_answer(stray) == ""
    assert [one.reason for one in bench.decided()] == [Reason.CONFIRMATION_REJECTED]


def test_a_rejection_counts_until_the_entry_is_sent(journal: Journal) -> None:
    """Also where both answers lay waiting for a bot."""
    bench = Bench(journal)
    bench.ask("AAA")
    bench.answer("AAA")
    bench.answer("AAA", ControlVerb.REJECT)
    assert [one.reason for one in Bench(journal).decided()] == [Reason.CONFIRMATION_REJECTED]
    assert [one.reason for one in bench.decided()] == [Reason.CONFIRMATION_REJECTED]


def test_nothing_is_sent_after_the_expiry_however_early_it_was_approved(journal: Journal) -> None:
    """A bot that starts later does not act on an answer that was kept for it, and the decision says so."""
    bench = Bench(journal)
    bench.ask("AAA")
    bench.answer("AAA")
    again = Bench(journal)
    again.clock.advance_to(ASKED + dt.timedelta(seconds=60))
    again.answer("AAA")
    (decision,) = again.decided()
    assert (decision.reason, decision.order) == (Reason.CONFIRMATION_EXPIRED, None)
    assert decision.detail == "confirmed by ann, but not sent in time"


def test_where_only_ends_of_minutes_count_what_was_confirmed_in_time_is_sent_at_the_next_one(journal: Journal) -> None:
    """An answer that came late expires there too."""
    bench = Bench(journal)
    bench.ask("AAA", "BBB")
    bench.answer("AAA")
    bench.clock.advance_to(ASKED + dt.timedelta(seconds=80))
    bench.answer("BBB")
    decided = bench.confirming.decide_answered(renewed, whole_minutes=True)
    assert [(one.proposal.signal.symbol, one.reason) for one in decided] == [
        ("AAA", Reason.ALLOWED),
        ("BBB", Reason.CONFIRMATION_EXPIRED),
    ]


def test_the_clock_of_a_sender_decides_nothing(journal: Journal) -> None:
    """An answer that seems to be of later is in time while the bot's own clock says so, as in a rehearsal."""
    bench = Bench(journal)
    bench.ask("AAA")
    bench.answer("AAA", made=ASKED + dt.timedelta(hours=5))
    assert [one.reason for one in bench.decided()] == [Reason.ALLOWED]


def test_an_approval_is_no_way_around_the_gate(journal: Journal) -> None:
    """Allowed when it was asked, denied when it is confirmed: the state of then counts, and nothing was reserved."""
    bench = Bench(journal)
    bench.ask("AAA")
    assert bench.desk.exposure.working == {}
    bench.answer("AAA")
    bench.desk.exposure.imposed_state = RiskState.EXIT_ONLY
    (decision,) = bench.decided()
    assert (decision.reason, decision.order) == (Reason.EXIT_ONLY, None)


def test_without_a_price_an_approval_waits(journal: Journal) -> None:
    """After a restart the session's bars come again; until then nothing is decided, and the end of it expires it."""
    bench = Bench(journal)
    bench.ask("AAA")
    bench.answer("AAA")
    assert bench.confirming.decide_answered(lambda _old: None) == []
    assert [one.reason for one in bench.confirming.expire_all()] == [Reason.CONFIRMATION_EXPIRED]


def test_a_denied_signal_asks_nobody(journal: Journal) -> None:
    """It is denied at once."""
    bench = Bench(journal)
    bench.desk.exposure.imposed_state = RiskState.HALTED
    asked, denied = bench.confirming.hold_for_confirmation([proposal("AAA")])
    assert (asked, [one.signal.symbol for one in denied]) == ([], ["AAA"])
