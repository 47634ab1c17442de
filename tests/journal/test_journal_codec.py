"""Each kind of event has a class; what is read of a payload is written as the same payload."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts import BrokerEventKind
from tbot_core.errors import JournalError
from tbot_core.journal import codec, records
from tbot_core.journal.codec import EventFacts
from tbot_core.journal.events import CLASSES, class_of
from tbot_core.journal.events.accounts import ForeignHolding, InstrumentRulesReported
from tbot_core.journal.events.orders import OrderReported, SignalDecided
from tbot_core.journal.events.risk import ArmingKept, Disarmed, StateChanged
from tbot_core.journal.events.sessions import MinutesMissed, Ready, RunStarted, WindowClosed
from tbot_core.journal.store import NewEvent
from tbot_core.model.exit_rules import ExitRules
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Mapping

READY: Mapping[str, Any] = {
    "session": "2026-03-03", "mode": "paper", "armed": None, "equity": "100000.00", "feed": "Alpaca IEX",
    "windows": ["open"], "worst_day": None, "positions": [], "stuck": [],
}  # fmt: skip


def test_each_kind_has_a_class_and_each_class_its_kind() -> None:
    """Every kind that the records name; the others are those of a broker's events."""
    named = {value for name, value in vars(records).items() if name.isupper() and isinstance(value, str)}
    assert {*CLASSES} == named - {records.CLOSED}
    assert {kind: class_of(kind).kind for kind in CLASSES} == {kind: kind for kind in CLASSES}
    assert {class_of(kind) for kind in BrokerEventKind} == {OrderReported}


@pytest.mark.parametrize(
    ("of", "payload"),
    [
        (Ready, {**READY, "vix": None}),
        (Ready, {**READY, "vix_live": True}),
        (Ready, {**READY, "vix": 18.5, "vix_day": "2026-03-02", "vix_source": "cboe", "first_live_day_cap": "100.00"}),
        (InstrumentRulesReported, {"symbol": "A", "known": False, "waiting": True, "words": "w"}),
        (InstrumentRulesReported, {"symbol": "A", "known": True, "waiting": False, "words": "", "tick": "0.05",
                                   "quantity_step": None, "tradable": True, "shortable": None, "kind": "fund"}),
        (MinutesMissed, {"session": "2026-03-03", "from": 3, "to": 9}),
        (StateChanged, {"cause": "DISK_LOW", "there": True, "state": "exit-only", "words": "2 %", "broker": "beta"}),
        (OrderReported, {"words": ""}),
        (OrderReported, {"words": "no", "meaning": "not_shortable"}),
    ],
)  # fmt: skip
def test_a_payload_is_written_as_it_was_read(of: type[Any], payload: Mapping[str, Any]) -> None:
    """Optional facts are left out where they were, and written where they were None."""
    assert codec.write(codec.read(of, payload)) == payload


def test_a_payload_of_an_older_version_is_read() -> None:
    """What it lacks has a default; numbers without a decimal point are numbers too."""
    assert codec.read(ForeignHolding, {"symbol": "A", "quantity": "-5"}).price is None
    assert codec.read(Ready, {**READY, "vix": 18}).vix == 18.0
    assert codec.read(StateChanged, {"cause": "DISK_LOW", "there": True, "state": "", "words": ""}).cause is (
        StateCause.DISK_LOW
    )


@pytest.mark.parametrize("payload", [{}, {"why": None}, {"why": 3}])
def test_a_payload_that_cannot_be_read_is_an_error_with_its_kind(payload: Mapping[str, Any]) -> None:
    """A fact that is missing, or of another type: nothing is guessed."""
    with pytest.raises(JournalError, match="An event of kind disarmed cannot be read"):
        codec.read(Disarmed, payload)


@pytest.mark.parametrize(
    "payload",
    [
        {"leave": "soon"}, {"trigger": "daily"},
    ],
)  # fmt: skip
def test_a_part_that_cannot_be_read_is_an_error_of_the_event(payload: Mapping[str, Any]) -> None:
    """Also a value that is none of those allowed."""
    with pytest.raises(JournalError, match="An event of kind decision cannot be read: exits"):
        _ = codec.view(SignalDecided, {"exits": payload}).exits
    assert codec.view(SignalDecided, {"exits": {"trigger": "close"}}).exits == ExitRules(trigger="close")


def test_facts_are_read_as_they_are_used() -> None:
    """An old journal may lack a fact that is not used; an absent fact differs from None."""
    window = codec.view(WindowClosed, {"strategy": "open"})
    assert window.strategy == "open"
    with pytest.raises(JournalError, match="window_closed cannot be read: candidates is missing"):
        _ = window.candidates
    assert [codec.view(ForeignHolding, text).states("price") for text in ({}, {"price": None})] == [False, True]
    assert ForeignHolding(symbol="A", quantity=Decimal(1)).states("price")
    with pytest.raises(AttributeError, match="WindowClosed has no weight"):
        _ = window.weight  # type: ignore[attr-defined]


def test_an_event_is_read_once_as_the_class_of_its_kind() -> None:
    """Another class is a mistake of the reader."""
    now = dt.datetime(2026, 3, 3, 15, 0, tzinfo=dt.UTC)
    event = NewEvent(kind="disarmed", payload={"why": "a", "broker": "beta"}, time=now)
    assert event.facts(Disarmed) is event.facts(EventFacts)
    assert (event.facts(Disarmed).why, event.broker) == ("a", "beta")
    with pytest.raises(TypeError, match="an event of kind disarmed is no ArmingKept"):
        event.facts(ArmingKept)


def test_a_run_keeps_settings_of_any_kind_as_plain_values() -> None:
    """Amounts as text, enumerations by value, sequences as lists."""
    tables = {"a": (Decimal("1.5"), StateCause.DISK_LOW), "b": {"c": 1, "d": None}}
    empty = {"request": {}, "settings": {}, "tables": tables, "notes": (), "equity": Decimal(1), "simulated": True}
    texts = dict.fromkeys(("run_id", "mode", "settings_hash", "data_hash", "source", "identity"), "x")
    payload = codec.write(RunStarted(**empty, **texts))  # type: ignore[arg-type]  # by name
    assert payload["tables"] == {"a": ["1.5", StateCause.DISK_LOW.value], "b": {"c": 1, "d": None}}


def test_facts_are_complete_and_do_not_change() -> None:
    """A fact that is missing or unknown is refused when an event is made."""
    with pytest.raises(TypeError, match="Disarmed lacks why and has no who"):
        Disarmed(who="a")  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match=r"Disarmed\.why cannot be changed"):
        Disarmed(why="a").why = "b"  # type: ignore[misc]


def test_facts_are_equal_by_class_and_value() -> None:
    """They are shown with their fields, and count once in a set."""
    assert Disarmed(why="a") == Disarmed(why="a") != Disarmed(why="b")
    assert Disarmed(why="a") != ArmingKept(restarts=1)
    assert repr(ArmingKept(restarts=1)) == "ArmingKept(broker='', restarts=1)"
    assert len({Disarmed(why="a"), Disarmed(why="a")}) == 1


def test_an_adjustment_gives_its_fill_of_no_order() -> None:
    """With its exact amounts."""
    payload = {
        "execution_id": "e", "symbol": "A", "buy": True, "quantity": "7", "price": "60.10", "fees": "0.01",
        "time": "2026-03-03T14:45:00+00:00", "unexplained": True,
    }  # fmt: skip
    adjustment = codec.read(class_of("adjustment"), payload)
    fill = adjustment.fill  # type: ignore[attr-defined]
    assert (fill.client_order_id, fill.price) == ("", Decimal("60.10"))
    assert fill.time == dt.datetime(2026, 3, 3, 14, 45, tzinfo=dt.UTC)
    assert codec.write(adjustment) == payload
    report = codec.read(OrderReported, {**payload, "words": ""})
    assert report.fill("cid") == type(fill)(
        **{**{name: getattr(fill, name) for name in payload if name != "unexplained"}, "client_order_id": "cid"}
    )
    assert OrderReported().fill("cid") is None
