"""The entries that wait for a person, with the money at stake, and the day as it is read again and again."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import BrokerEvent
from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import ConfirmationAsked, OrderIntended, OrderReported, SignalDecided
from tbot_core.journal.gauges import EntryQuote, Gauges, write_gauges
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.marketdata import received_files
from tbot_core.marketdata.received_bars import RecordedMinute, RecordingHeader, SessionRecorder
from tbot_core.model.bars import MinuteSlice
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.day_facts import DayFacts
from tbot_core.model.reasons import Reason
from tbot_core.status.confirmations import confirmations_document
from tbot_core.status.day import DayReader
from tbot_core.status.runs import RunFile
from tbot_core.testing.trades import fill, order, proposal
from tbot_core.trading.commands import Decision

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.journal.codec import Payload
    from tbot_core.journal.store import Journal

UNKNOWN_FACTS = ("previous_close", "average_volume", "market_cap", "atr", "vix", "restricted")
NOW = dt.datetime(2026, 3, 2, 15, 0, tzinfo=dt.UTC)


def asked(name: str, symbol: str, seconds: int) -> Payload:
    """A question that expires so many seconds from now."""
    decision = Decision(proposal=proposal(symbol), reason=Reason.ALLOWED, order=order(symbol=symbol))
    return codec.write(ConfirmationAsked.asked(name, decision, NOW + dt.timedelta(seconds=seconds)))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with two entries that wait, one that was decided, and one that has expired."""
    create_demo_instance(tmp_path)
    (tmp_path / "data").mkdir()
    decided = codec.write(SignalDecided.of(Decision(proposal=proposal("BBB"), reason=Reason.HALTED)))
    document_of = [
        (records.CONFIRMATION_ASKED, asked("aaaa", "AAA", 90)),
        (records.CONFIRMATION_ASKED, asked("bbbb", "BBB", 90)),
        (records.CONFIRMATION_ASKED, asked("cccc", "CCC", -1)),
        (records.CONFIRMATION_ASKED, asked("dddd", "DDD", 30)),
        (records.DECISION, decided),
    ]
    with closing(open_journal(tmp_path / "data" / "tbot.sqlite")) as journal:
        append(journal, document_of)
    return tmp_path


def append(journal: Journal, document_of: list[tuple[str, Payload]]) -> None:
    """Write events."""
    journal.append([NewEvent(kind=kind, payload=payload, time=NOW) for kind, payload in document_of])


def test_what_waits_has_its_worth_its_risk_and_the_time_left(home: Path) -> None:
    """The first to expire first; what was decided is listed with its reason."""
    found = confirmations_document(home, NOW)
    assert [(one["symbol"], one["left_s"]) for one in found["open"]] == [("DDD", 30), ("AAA", 90)]
    (_, first) = found["open"]
    assert (first["worth"], first["last"]) == ("10000.00", None)
    price, stop = float(first["price"]), float(first["stop"])
    assert float(first["risk"]) == pytest.approx(abs(price - stop) * float(first["quantity"]))
    assert [(one["symbol"], one["reason"], one["quantity"]) for one in found["decided"]] == [("BBB", "HALTED", None)]
    assert not found["running"]


def test_planned_levels_are_on_the_tick_grid(home: Path) -> None:
    """As the orders will have them, not as the strategy computed them."""
    planned = asked("eeee", "EEE", 10) | {"stop": 98.0034, "target": 104.0061}
    with closing(open_journal(home / "data" / "tbot.sqlite")) as journal:
        append(journal, [(records.CONFIRMATION_ASKED, planned)])
    first = confirmations_document(home, NOW)["open"][0]
    assert (first["symbol"], first["stop"], first["target"]) == ("EEE", "98.0100", "104.0100")


def test_what_was_sent_is_listed_with_its_quantity_and_who_confirmed_it(home: Path) -> None:
    """The quantity is that of the decision: it may be less than what was asked for."""
    confirmed = Decision(proposal=proposal("AAA"), reason=Reason.ALLOWED, detail="confirmed by ann")
    with closing(open_journal(home / "data" / "tbot.sqlite")) as journal:
        append(journal, [(records.DECISION, codec.write(SignalDecided.of(confirmed)) | {"sizing": {"quantity": "7"}})])
    newest = next(one for one in confirmations_document(home, NOW)["decided"] if one["symbol"] == "AAA")
    assert (newest["reason"], newest["words"], newest["quantity"]) == ("ALLOWED", "confirmed by ann", "7")


def test_what_was_sent_is_not_called_bought_before_it_is(home: Path) -> None:
    """How much was traded, and whether the order still works."""
    confirmed = Decision(proposal=proposal("AAA"), reason=Reason.ALLOWED, detail="confirmed by ann")
    sent = order(symbol="AAA", quantity="7", limit="100")

    def document_of(kind: str, payload: Payload, cid: str = "") -> dict[str, Any]:
        with closing(open_journal(home / "data" / "tbot.sqlite")) as journal:
            journal.append([NewEvent(kind=kind, payload=payload, time=NOW, cid=cid or None)])
        decided = confirmations_document(home, NOW)["decided"]
        return next(one for one in decided if one["symbol"] == "AAA")

    decision = codec.write(SignalDecided.of(confirmed)) | {"sizing": {"quantity": "7"}}
    document_of(records.DECISION, decision)
    document_of(records.INTENDED, codec.write(OrderIntended.of(sent)), sent.client_order_id)
    working = document_of(records.SENDING, {}, sent.client_order_id)
    assert (working["filled"], working["working"]) == ("0", True)
    part = BrokerEvent(kind="fill", event_id="1", client_order_id="", fill=fill(sent, "99.98", "3"))
    partly = document_of("fill", codec.write(OrderReported.of(part)), sent.client_order_id)
    assert (partly["filled"], partly["working"]) == ("3", True)
    ended = BrokerEvent(kind="cancelled", event_id="2", client_order_id="")
    done = document_of("cancelled", codec.write(OrderReported.of(ended)), sent.client_order_id)
    assert (done["quantity"], done["filled"], done["working"]) == ("7", "3", False)


def test_an_answer_that_waits_for_a_bot_is_shown_with_its_entry(home: Path) -> None:
    """Verb and actor; the other entries have none."""
    folder = home / "control"
    control.write_request(folder, ControlVerb.CONFIRM, actor="ann", now=NOW, arguments={"id": "aaaa"})
    found = {one["symbol"]: one["answer"] for one in confirmations_document(home, NOW)["open"]}
    assert found == {"AAA": {"verb": "confirm", "actor": "ann"}, "DDD": None}


def test_the_price_now_is_the_side_of_the_latest_quote_that_the_entry_would_pay(home: Path) -> None:
    """With its time; the quote of another run's journal counts for nothing."""
    quote = EntryQuote(bid=Decimal("100.9"), ask=Decimal("101.1"), at=NOW - dt.timedelta(seconds=2))
    taken = Gauges(
        journal="tbot.sqlite",
        session="2026-01-05",
        at=NOW,
        marks={},
        daily_loss_limit=Decimal(1),
        budget=Decimal(1),
        most_trades=1,
        most_positions=1,
        quotes={"aaaa": quote},
    )
    write_gauges(home / "data", taken)
    found = {one["symbol"]: one for one in confirmations_document(home, NOW)["open"]}
    assert [found["AAA"][name] for name in ("last", "last_of", "last_at")] == ["101.1", "ask", quote.at.isoformat()]
    assert (found["DDD"]["last"], found["DDD"]["last_of"]) == (None, "")
    write_gauges(home / "data", attrs.evolve(taken, journal="other.sqlite"))
    assert {one["last"] for one in confirmations_document(home, NOW)["open"]} == {None}


def test_the_price_now_is_that_of_the_last_minute_that_was_received(home: Path) -> None:
    """None where it had no bar; a recording that cannot be read has no prices."""
    session = ExchangeCalendar().session(proposal("AAA").signal.session)
    assert session is not None
    symbols = ("AAA", "DDD")
    folder = home / "data" / received_files.FOLDER
    unknown: Any = dict.fromkeys(UNKNOWN_FACTS, np.full(2, np.nan))
    header = RecordingHeader(session=session, symbols=symbols, day=DayFacts(**unknown))
    bar = np.array([101.5, np.nan])
    minute = MinuteSlice(index=0, open=bar, high=bar, low=bar, close=bar, volume=bar, vwap=bar)
    recorder = SessionRecorder.open(folder, header)
    recorder.append(RecordedMinute(minute=minute, at=NOW))
    found = {one["symbol"]: one for one in confirmations_document(home, NOW)["open"]}
    assert [found["AAA"][name] for name in ("last", "last_of", "last_at")] == [
        "101.5",
        "close",
        session.moment(1).isoformat(),
    ]
    assert found["DDD"]["last"] is None
    path = received_files.recorded_file(folder, session.date)
    assert path is not None
    path.write_bytes(b"nothing")
    assert {one["last"] for one in confirmations_document(home, NOW)["open"]} == {None}


def test_before_the_first_start_nothing_waits(tmp_path: Path) -> None:
    """Without a journal."""
    assert confirmations_document(tmp_path, NOW) == {"running": False, "open": [], "decided": []}


def test_a_day_is_read_on_and_anew_where_another_journal_took_its_place(tmp_path: Path) -> None:
    """Before the first session it has neither bells nor an equity."""
    path = tmp_path / "one.sqlite"
    reader = DayReader(RunFile(name="one", path=path, changed=0.0))
    with closing(open_journal(path)) as journal:
        append(journal, [(records.CONFIRMATION_ASKED, asked("aaaa", "AAA", 90))])
        decision = Decision(proposal=proposal("AAA"), reason=Reason.ALLOWED, order=order(symbol="AAA"))
        append(journal, [(records.DECISION, codec.write(SignalDecided.of(decision)))])
        found = reader.read()
        assert (found["date"], found["open"], found["equity"], found["windows"]) == (None, None, [], [])
        assert set(found["targets"]) == {"AAA"}
    for file in tmp_path.iterdir():
        file.unlink()
    with closing(open_journal(path)) as journal:
        append(journal, [(records.CONFIRMATION_ASKED, asked("aaaa", "AAA", 90))])
        assert reader.read()["targets"] == {}
