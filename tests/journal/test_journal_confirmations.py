"""Entries that wait for a person, as a journal tells of them."""

from __future__ import annotations

import datetime as dt

import attrs

from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import ConfirmationAsked, SignalDecided
from tbot_core.journal.projection import TypedEvent
from tbot_core.journal.projections.confirmations import (
    SHORTEST,
    PendingConfirmations,
    recall_confirmations,
    short_id,
)
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Side
from tbot_core.testing.trades import order, proposal
from tbot_core.trading.commands import Decision

NOON = dt.datetime(2026, 1, 5, 17, 0, tzinfo=dt.UTC)
LATER = NOON + dt.timedelta(seconds=60)


@attrs.frozen(kw_only=True)
class Told(TypedEvent):
    """An event."""

    kind: str
    payload: records.Payload
    cid: str | None = None
    applied: dt.datetime = NOON


def asked(symbol: str) -> records.Payload:
    """An entry that somebody is asked about."""
    found = proposal(symbol)
    decision = Decision(proposal=found, reason=Reason.ALLOWED, order=order(symbol=symbol))
    return codec.write(ConfirmationAsked.asked(short_id(found.signal, ()), decision, LATER))


def test_a_name_is_short_and_its_own() -> None:
    """The same signal has the same one; where that is taken it grows by a sign."""
    signal = proposal("AAA").signal
    name = short_id(signal, ())
    assert (len(name), short_id(signal, ())) == (SHORTEST, name)
    assert short_id(signal, {name}) == short_id(signal, {name})
    assert short_id(signal, {name}).startswith(name)
    assert short_id(proposal("BBB").signal, ()) != name


def test_what_is_asked_says_what_would_be_sent() -> None:
    """Side, quantity, reference price and until when; without an order there is no quantity."""
    payload = asked("AAA")
    assert (payload["side"], payload["quantity"], payload["price"]) == (Side.LONG.word, "100", 100.0)
    assert payload["expires"] == LATER.isoformat()
    assert (
        codec.write(ConfirmationAsked.asked("x", Decision(proposal=proposal(), reason=Reason.ALLOWED), LATER))[
            "quantity"
        ]
        is None
    )


def test_an_entry_waits_until_it_is_decided_or_its_time_is_over() -> None:
    """The oldest first; a decision on another signal changes nothing."""
    waiting = PendingConfirmations()
    for symbol in ("AAA", "BBB", "CCC"):
        waiting.apply(Told(kind=records.CONFIRMATION_ASKED, payload=asked(symbol)))
    for symbol in ("DDD", "BBB"):
        denied = Decision(proposal=proposal(symbol), reason=Reason.HALTED)
        waiting.apply(Told(kind=records.DECISION, payload=codec.write(SignalDecided.of(denied))))
    assert [one["signal"]["symbol"] for one in waiting.open_entries(NOON)] == ["AAA", "CCC"]
    assert [one["reason"] for one in waiting.decided.values()] == ["HALTED"]
    assert waiting.open_entries(LATER) == []


def test_a_new_session_asks_anew() -> None:
    """What waited in the one before is gone."""
    waiting = PendingConfirmations()
    waiting.apply(Told(kind=records.CONFIRMATION_ASKED, payload=asked("AAA")))
    waiting.apply(Told(kind=records.SESSION_OPENED, payload={}))
    waiting.apply(Told(kind=records.SENDING, payload={}))
    assert (waiting.entries, waiting.open_entries(NOON)) == ({}, [])


def test_a_journal_is_read_from_its_beginning() -> None:
    """Its events in their order come to what waits."""
    told = (asked("AAA"), asked("BBB"))
    events = [Told(kind=records.CONFIRMATION_ASKED, payload=payload) for payload in told]
    assert [one["signal"]["symbol"] for one in recall_confirmations(events).open_entries(NOON)] == ["AAA", "BBB"]
