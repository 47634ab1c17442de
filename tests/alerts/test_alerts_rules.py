"""What a person reads of the journal: each event's sentence, and incidents exactly as long as they hold."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.alerts.rules import UNKNOWN_AFTER, AlertRules, RoutineEvents
from tbot_core.contracts import Urgency
from tbot_core.journal import codec, records
from tbot_core.journal.codec import fill_facts
from tbot_core.journal.events.accounts import Adjustment
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.journal.events.sessions import CarriedPosition
from tbot_core.journal.store import Event
from tbot_core.model.types import ExitReason, Fill, Leg, Order, OrderType, SignalId
from tbot_core.trading.risk.states import KINDS, StateCause

if TYPE_CHECKING:
    from tbot_core.alerts.store import Notice

BELL = datetime(2026, 11, 24, 14, 30, tzinfo=UTC)
SIGNAL = SignalId(session=date(2026, 11, 24), strategy="open", symbol="ACME", minute=5, rule="up")
OPENED = {"date": "2026-11-24", "open": BELL.isoformat(), "close": BELL.isoformat(), "minutes": 390, "symbols": 1,
          "equity": "100000.00", "state": "normal", "windows": {}}  # fmt: skip
CLOSED = {"date": "2026-11-24", "equity": "100012.50", "cash": "100012.50", "pnl": "12.50", "trades": 1, "open": []}

READY = {"session": "2026-11-24", "equity": "100000", "windows": ["close"], "positions": [], "stuck": []}


class Story:
    """A watch that reads events as they are recorded."""

    def __init__(self, **wanted: bool) -> None:
        self.watch = AlertRules(RoutineEvents(**wanted))
        self.now = BELL
        self.seq = 0
        self.said: list[Notice] = []
        self.event(records.SESSION_OPENED, OPENED)

    def event(self, kind: str, payload: dict[str, Any], cid: str | None = None) -> list[Notice]:
        """The next event."""
        self.seq += 1
        event = Event(seq=self.seq, kind=kind, cid=cid, source=None, payload=payload, received=self.now,
                      applied=self.now, hash="")  # fmt: skip
        found = self.watch.apply(event)
        self.said += found
        return found

    def cause(self, cause: StateCause, *, there: bool = True, words: str = "") -> None:
        """A cause that comes or goes."""
        self.event(records.STATE, {"cause": cause.name, "there": there, "state": "?", "words": words})

    def intend(self, cid: str, leg: Leg, quantity: str = "10") -> None:
        """An order that is written down and sent."""
        order = Order(client_order_id=cid, signal=SIGNAL, leg=leg, buy=leg is Leg.ENTRY,
                      quantity=Decimal(quantity), type=OrderType.MARKET,
                      reason=None if leg is Leg.ENTRY else ExitReason.STOP)  # fmt: skip
        self.event(records.INTENDED, codec.write(OrderIntended.of(order)), cid)
        self.event(records.SENDING, {}, cid)

    def fill(self, cid: str, price: str, quantity: str = "10", *, buy: bool = True) -> list[Notice]:
        """An execution."""
        fill = Fill(execution_id=f"x{self.seq}", client_order_id=cid, symbol="ACME", buy=buy,
                    quantity=Decimal(quantity), price=Decimal(price), fees=Decimal(0), time=self.now)  # fmt: skip
        return self.event("fill", {"words": "", **codec.write(Adjustment.of(fill))}, cid)

    def enter(self) -> None:
        """Ten shares that a resting stop protects."""
        self.intend("e", Leg.ENTRY)
        self.intend("s", Leg.STOP)
        self.fill("e", "20.00")
        self.event("acknowledged", {"words": ""}, "s")

    def incidents(self, seconds: float = 0.0) -> dict[str, Notice]:
        """What stands once this much time has passed, looked at before and after."""
        self.watch.open_incidents(self.now)
        self.now += timedelta(seconds=seconds)
        return self.watch.open_incidents(self.now)


def test_a_trade_is_reported_from_its_entry_to_its_exit() -> None:
    """An entry once it is done, with its average price; an exit with profit, reason and how to ask why."""
    story = Story()
    story.intend("e", Leg.ENTRY)
    assert story.fill("e", "20.00", "4") == []
    (entry,) = story.fill("e", "20.10", "6")
    assert (entry.what, entry.urgency) == ("[OPEN] BUY 10 ACME @ 20.06", Urgency.ROUTINE)
    story.intend("s", Leg.STOP)
    (done,) = story.fill("s", "21.31", buy=False)
    assert done.what == "[OPEN] EXIT ACME stop +12.50 (10 @ 21.31)"
    assert done.command == "tbot why ACME"
    assert entry.key != done.key


def test_an_entry_is_reported_with_its_stop() -> None:
    """As it was planned, until there is an order for it; the command says how to ask why."""
    story = Story()
    decision = {
        "signal": attrs.asdict(SIGNAL) | {"session": SIGNAL.session.isoformat()},
        "reason": "ALLOWED",
        "stop": 19.456,
        "side": "long",
    }
    story.event(records.DECISION, decision)
    story.intend("e", Leg.ENTRY)
    (entry,) = story.fill("e", "20.00")
    assert (entry.what, entry.command) == ("[OPEN] BUY 10 ACME @ 20.00 stop 19.46", "tbot why ACME")


def test_a_part_of_an_entry_is_reported_when_its_rest_is_cancelled() -> None:
    """What was filled is reported at the order's end, however it ended; an entry without a fill is not."""
    story = Story()
    story.intend("e", Leg.ENTRY)
    story.fill("e", "20.00", "4")
    (entry,) = story.event("cancelled", {"words": ""}, "e")
    assert entry.what == "[OPEN] BUY 4 ACME @ 20.00"
    story.intend("f", Leg.ENTRY)
    assert story.event("expired", {"words": ""}, "f") == []


@pytest.mark.parametrize(
    ("kind", "payload", "what", "urgency"),
    [
        (records.WINDOW_CLOSED,
         {"strategy": "open", "candidates": 12, "triggers": 1, "near_misses": [], "bad_prints": []},
         "[OPEN] Entries ended: 12 candidates, 1 signal.", Urgency.ROUTINE),
        (records.SESSION_CLOSED, CLOSED,
         "Session 2026-11-24 ended: P&L +12.50, 1 trade, denials: 0 (symbols x strategies), equity 100,012.50.",
         Urgency.ROUTINE),
        (records.SESSION_CLOSED, {**CLOSED, "trades": 0, "open": ["ACME"]},
         ("Session 2026-11-24 ended: P&L +12.50, 0 trades closed, 1 open, denials: 0 (symbols x strategies), equity "
          "100,012.50."), Urgency.ROUTINE),
        (records.STOPPED, {"open": []}, "The run was stopped; nothing is open.", Urgency.ROUTINE),
        (records.STOPPED, {"open": ["ACME"]}, "The run was stopped and left open: ACME.", Urgency.CRITICAL),
        (records.STOPPED, {"open": [], "unconfirmed": ""}, "The run was stopped; nothing is open.", Urgency.ROUTINE),
        (records.STOPPED, {"open": [], "unconfirmed": "no line"},
         "The run was stopped; the books show nothing open, but the account could not be read: no line.",
         Urgency.CRITICAL),
        (records.STOPPED, {"open": ["ACME"], "unconfirmed": "no line."},
         "The run was stopped and left open: ACME. The account could not be read: no line.", Urgency.CRITICAL),
        (records.RISK, {"what": "losing run latch", "cause": "losses in a row", "value": "3", "limit": "3"},
         "Losing run latch: losses in a row, 3, limit 3.", Urgency.ROUTINE),
        (records.RISK, {"what": "equity jump", "cause": "nothing explains it", "value": "130", "limit": "100"},
         "Equity jump: nothing explains it, 130, limit 100.", Urgency.CRITICAL),
        (records.SETTINGS, {"changes": {"MAX_TRADES": ["3", "4"]}, "fault": ""},
         "The settings have changed, effective from the next session: MAX_TRADES 3 -> 4.", Urgency.ROUTINE),
        (records.SETTINGS, {"changes": {}, "fault": "MAX_TRADES: many."},
         "The changed settings are invalid, so the run keeps its previous ones: MAX_TRADES: many.",
         Urgency.CRITICAL),
        (records.HOLIDAY, {"date": "2026-11-26", "name": "Thanksgiving Day", "next": "2026-11-27"},
         "Closed today, 2026-11-26: Thanksgiving Day. Next session: 2026-11-27.", Urgency.ROUTINE),
        (records.CASH_SHARE, {"share": "0.853211", "target": "0.98"},
         "Cash is 85.3 % of equity, its target is 98.0 %.", Urgency.ROUTINE),
        (records.FOREIGN_HOLDING, {"symbol": "ACME", "quantity": "5"},
         "The account holds 5 ACME that tbot does not manage.", Urgency.ROUTINE),
        (records.FOREIGN_HOLDING, {"symbol": "ACME", "quantity": "5", "price": "9.5"},
         "The account holds 5 ACME that tbot does not manage.", Urgency.ROUTINE),
        (records.FOREIGN_HOLDING, {"symbol": "ACME", "quantity": "0", "price": None},
         "The account holds 0 ACME that tbot does not manage.", Urgency.ROUTINE),
        (records.FOREIGN_HOLDING, {"symbol": "ACME", "quantity": "5", "price": None},
         "The account holds 5 ACME that tbot does not manage; they count in no limit until their price is known.",
         Urgency.ROUTINE),
        (records.FOREIGN_ORDER, {"buy": False, "quantity": "5", "symbol": "ACME", "said": "acknowledged"},
         "An order at the broker was not placed by tbot: sell 5 ACME, acknowledged.", Urgency.ROUTINE),
        (records.OTHER_TERMS,
         {"leg": "entry", "symbol": "ACME", "buy": True, "quantity": "700",
          "ordered": {"symbol": "ACME", "buy": True, "quantity": "7"}},
         "The broker works the entry to buy 7 ACME as an order to buy 700 ACME.", Urgency.CRITICAL),
        (records.REQUEST_REFUSED, {"name": "arm", "words": "it is another's."},
         "The request arm was refused: it is another's.", Urgency.ROUTINE),
        (records.PLUGIN_FAILED, {"plugin": "filter/mine", "error": "judge: it hangs.", "off": False},
         "Plugin filter/mine failed: judge: it hangs.", Urgency.ROUTINE),
        (records.PLUGIN_FAILED, {"plugin": "strategy/open", "error": "scan: it hangs.", "off": True},
         "Plugin strategy/open failed and is disabled for the rest of the session: scan: it hangs.", Urgency.CRITICAL),
        (records.PLUGIN_FAILED, {"plugin": "broker/acme", "error": "poll: boom.", "off": True},
         "Plugin broker/acme fails (3 in 10 min): no entries until it works; last error: poll: boom.",
         Urgency.CRITICAL),
        (records.READY, READY | {"vix": 18.25},
         "READY for the session of 2026-11-24: equity 100,000.00, close, VIX 18.25.", Urgency.ROUTINE),
        (records.READY, READY | {"vix": 16.2, "vix_day": "2026-11-23", "vix_source": "cboe"},
         "READY for the session of 2026-11-24: equity 100,000.00, close, VIX 16.2 of 2026-11-23 (cboe).",
         Urgency.ROUTINE),
        (records.READY, READY | {"vix": None},
         "READY for the session of 2026-11-24: equity 100,000.00, close, VIX unknown.", Urgency.ROUTINE),
        (records.READY, READY | {"vix": None, "vix_unknown": {"day": "2026-11-23", "strategies": ["close"]},
                                 "not_shortable": {"NOT_SHORTABLE": ["KO"]}},
         ("READY for the session of 2026-11-24: VIX close of 2026-11-23 unknown: no entries by close. `tbot data "
          "download vix` and a new start supply it, or DATA_SOURCE with the VIX. NOT_SHORTABLE: no short sales of 1 "
          "symbol: KO. Equity 100,000.00, close, VIX unknown."), Urgency.ROUTINE),
        (records.VIX, {"strategy": "close", "value": None, "candidates": 0},
         ("[CLOSE] no entries: the live VIX is unknown. VIX_SOURCE=previous_close uses the close of the session before "
          "instead."), Urgency.ROUTINE),
        (records.READY, READY | {"first_live_day_cap": "500.00", "universe": {"listed": 60, "subscribed": 30,
          "left_out": {"VOLUME_LOW": 25, "not tradable": 5}, "limit": 30, "limited_by": "the feed's limit"}},
         ("READY for the session of 2026-11-24: equity 100,000.00, close, 30 of 60 symbols subscribed (the feed's limit"
          ", 30; symbols left out: VOLUME_LOW 25, not tradable 5), first live day: entries of at most 500.00."),
         Urgency.ROUTINE),
        (records.DRIFT, {"date": "2026-11-24", "both": 2, "missing": 0, "extra": 0, "entry_bps": 0.0, "exit_bps": -1.5,
          "pnl": "3.00", "expected_pnl": "2.50"},
         ("The session of 2026-11-24 beside its shadow run: 2 of 2 expected trades made, 0 missing, 0 not expected; "
          "entries as expected, exits 1.5 bps better; P&L +3.00, expected +2.50."), Urgency.ROUTINE),
        (records.READY, READY | {"vix_live": True},
         ("READY for the session of 2026-11-24: equity 100,000.00, close, live VIX at the start of each window's "
             "entries."),
         Urgency.ROUTINE),
        (records.READY, READY | {"mode": "live", "armed": "2026-11-25", "feed": "alpaca", "worst_day": "0.0125"},
         ("READY for the session of 2026-11-24: live, armed to 2026-11-25, equity 100,000.00, feed alpaca, close, "
          "planned worst day 1.25\N{NO-BREAK SPACE}%."), Urgency.ROUTINE),
        (records.READY, READY | {"feed": "alpaca", "feed_quality": "one venue", "request_limit": "200 a minute"},
         ("READY for the session of 2026-11-24: equity 100,000.00, feed alpaca (one venue; 200 a minute), "
          "close."), Urgency.ROUTINE),
        ("busted", {"words": "clearly erroneous"},
         "The broker reported an execution as busted: clearly erroneous", Urgency.ROUTINE),
    ],
)  # fmt: skip
def test_what_an_event_alone_says(kind: str, payload: dict[str, Any], what: str, urgency: Urgency) -> None:
    """Windows, sessions, stops, latches, what is foreign, refusals and busts each have their sentence."""
    (notice,) = Story().event(kind, payload)
    assert (notice.what, notice.urgency) == (what, urgency)


def test_a_reject_is_reported_in_the_brokers_words() -> None:
    """Which order, why, and how to ask for its reason; a broker that gave no reason is not quoted."""
    story = Story()
    for cid, words in (("a", "insufficient buying power"), ("b", "")):
        story.intend(cid, Leg.ENTRY)
        story.event("rejected", {"words": words}, cid)
    assert [one.what for one in story.said] == [
        "[OPEN] REJECTED entry of 10 ACME by the broker: insufficient buying power",
        "[OPEN] REJECTED entry of 10 ACME by the broker: it gave no reason",
    ]


def test_notify_settings_drop_what_they_name() -> None:
    """NOTIFY_ON_FILL, NOTIFY_ON_EXIT and NOTIFY_ON_FAILURE drop their events; critical ones go out all the same."""
    story = Story(fills=False, exits=False, failures=False)
    story.enter()
    story.fill("s", "19.00", buy=False)
    story.intend("r", Leg.ENTRY)
    story.event("rejected", {"words": ""}, "r")
    story.event(records.REQUEST_REFUSED, {"name": "arm", "words": "no."})
    story.event("busted", {"words": ""})
    story.event(records.PLUGIN_FAILED, {"plugin": "filter/mine", "error": "", "off": False})
    assert story.said == []
    story.cause(StateCause.LOGIN)
    assert [one.urgency for one in story.incidents().values()] == [Urgency.CRITICAL]


@pytest.mark.parametrize("cause", list(StateCause))
def test_every_cause_is_reported_as_long_as_it_holds(cause: StateCause) -> None:
    """Each is an incident with its state, its words and a command; its withdrawal ends it.

    That of the data says what is held meanwhile.
    """
    story = Story()
    story.enter()
    story.cause(cause, words="because")
    (notice,) = story.incidents(UNKNOWN_AFTER.total_seconds() + 1).values()
    held = ", with 1 open position: ACME" if cause is StateCause.FEEDS_STALE else ""
    assert notice.what.lower() == f"{KINDS[cause].state.word}: {cause.value}, because{held}.".lower()
    asked = cause.name.startswith(("STOP_", "DEFENSE_")) or cause in {StateCause.NOT_ARMED, StateCause.MAINTENANCE}
    wary = KINDS[cause].state.word == "defense"
    assert notice.urgency is (Urgency.ROUTINE if asked or wary else Urgency.CRITICAL)
    assert notice.command.startswith(("tbot ", "rm control/"))
    story.cause(cause, there=False)
    assert story.incidents() == {}


def test_an_account_is_unread_at_every_start_and_pages_no_person_for_a_minute() -> None:
    """The first reading may take a minute; a stale feed wakes somebody only while something is held."""
    story = Story()
    story.cause(StateCause.UNRECONCILED)
    assert story.incidents(60.0) == {}
    assert set(story.incidents(1.0)) == {"state UNRECONCILED"}
    story.cause(StateCause.UNRECONCILED, there=False)
    story.cause(StateCause.FEEDS_STALE)
    assert [one.urgency for one in story.incidents().values()] == [Urgency.ROUTINE]
    story.enter()
    assert [one.urgency for one in story.incidents().values()] == [Urgency.CRITICAL]


def test_an_unknown_order_pages_a_person_after_a_minute() -> None:
    """Sixty seconds without an outcome are critical until one is there; a lost order is at once."""
    story = Story()
    story.intend("e", Leg.ENTRY)
    story.event(records.NO_ANSWER, {"words": "time-out"}, "e")
    assert story.incidents(60.0) == {}
    (notice,) = story.incidents(1.0).values()
    assert notice.what == "UNKNOWN for 60 s: entry of 10 ACME may be filled or not. Order e."
    story.event(records.LOST, {}, "e")
    (notice,) = story.incidents().values()
    assert notice.what == "LOST: entry of 10 ACME is not at the broker; its exposure stays reserved. Order e."
    story.event("cancelled", {"words": ""}, "e")
    assert story.incidents(120.0) == {}


def test_an_order_unknown_again_is_counted_from_its_return() -> None:
    """An order that was found and is lost sight of again has its minute once more."""
    story = Story()
    story.intend("e", Leg.ENTRY)
    story.event(records.NO_ANSWER, {"words": ""}, "e")
    story.incidents(50.0)
    story.event("acknowledged", {"words": ""}, "e")
    story.incidents(5.0)
    story.event(records.ORDER_NOT_FOUND, {}, "e")
    assert story.incidents(50.0) == {}


def test_a_position_without_a_stop_is_unprotected_after_ten_seconds() -> None:
    """A resting stop for all of it protects, an exit under way does, unless its outcome is unknown."""
    story = Story()
    story.enter()
    assert story.incidents(60.0) == {}
    story.event("cancelled", {"words": ""}, "s")
    assert story.incidents(10.0) == {}
    (notice,) = story.incidents(0.1).values()
    assert (notice.what, notice.urgency) == (
        "UNPROTECTED: long 10 ACME, stops cover 0.",
        Urgency.CRITICAL,
    )
    story.intend("t", Leg.STOP, "9.5")
    assert set(story.incidents()) == {"unprotected ACME"}
    story.event("acknowledged", {"words": ""}, "t")
    assert story.incidents(60.0) == {}
    story.event("cancelled", {"words": ""}, "t")
    story.intend("x", Leg.EXIT)
    assert story.incidents(60.0) == {}
    story.event(records.NO_ANSWER, {"words": "503"}, "x")
    story.incidents(10.0)
    assert "unprotected ACME" in story.incidents(0.1)


def test_f28_what_was_filled_beyond_a_position_is_said_for_as_long_as_it_is_held() -> None:
    """No stop and no exit of tbot's works for it, so a person has to know until it is gone."""
    story = Story()
    story.enter()
    story.fill("s", "19.00", "10", buy=False)
    assert story.incidents(60.0) == {}
    story.intend("x", Leg.EXIT)
    story.fill("x", "19.00", "10", buy=False)
    (notice,) = story.incidents(600.0).values()
    assert notice.urgency is Urgency.CRITICAL
    words = "UNPROTECTED: short 10 ACME beyond all positions, without a stop."
    assert notice.what == words


@pytest.mark.parametrize(
    ("cause", "command"),
    [
        ("KILL_FILE", "rm control/kill"),
        ("STOP_FILE", "rm control/stop"),
        ("KILL_COMMAND", "tbot kill --clear"),
        ("KILL_SIGNAL", "tbot kill --clear"),
    ],
)
def test_the_command_to_run_next_ends_the_message(cause: str, command: str) -> None:
    """A file in control/ is removed by the person who made it: no command of tbot removes it."""
    story = Story()
    story.event(records.STATE, {"cause": cause, "there": True, "state": "halted", "words": ""})
    assert [one.command for one in story.incidents().values()] == [command]


@pytest.mark.parametrize("what", ["daily loss latch", "exit-only"])
def test_a_latch_stands_to_the_sessions_end(what: str) -> None:
    """A loss latch, and exits only for the session, are critical until the next session opens."""
    story = Story()
    story.event(records.RISK, {"what": what, "cause": "DAILY_LOSS_LIMIT reached", "value": "-500", "limit": "-400"})
    (notice,) = story.incidents().values()
    assert notice.urgency is Urgency.CRITICAL
    assert notice.what.endswith(
        " until the end of the session: DAILY_LOSS_LIMIT reached, \N{MINUS SIGN}500, limit \N{MINUS SIGN}400."
    )
    story.event(records.SESSION_CLOSED, CLOSED)
    assert story.incidents() == {}


def test_what_is_held_after_the_bell_is_stuck() -> None:
    """A position that could not be closed is critical until it is, also in the session that follows."""
    story = Story()
    story.enter()
    left = Fill(execution_id="c", client_order_id="", symbol="ACME", buy=True, quantity=Decimal(10),
                price=Decimal(21), fees=Decimal(0), time=BELL)  # fmt: skip
    carried = codec.write(CarriedPosition(signal=SIGNAL, **fill_facts(left)))
    story.event(records.STUCK, {**carried, "side": "long", "words": "it is halted", "attempts": {}})
    story.event(records.SESSION_CLOSED, {**CLOSED, "open": ["ACME"]})
    story.event(records.SESSION_OPENED, {**OPENED, "carried": [carried]})
    (notice,) = [one for one in story.incidents(5.0).values() if "STUCK" in one.what]
    assert notice.what == "STUCK: long 10 ACME could not be closed, it is halted; it will be closed at the next open."
    assert (notice.urgency, notice.command) == (Urgency.CRITICAL, "tbot why ACME")
    story.intend("x", Leg.EXIT)
    story.fill("x", "21.00", buy=False)
    assert story.incidents() == {}


def test_what_is_not_closed_two_minutes_before_the_bell_wakes_somebody() -> None:
    """It is said once, with why."""
    story = Story()
    said = {"symbol": "ACME", "side": "long", "quantity": "10", "words": "its exit does not fill"}
    (notice,) = story.event(records.CLOSING_LATE, said)
    what = "The session ends in two minutes and long 10 ACME is still open: its exit does not fill."
    assert (notice.what, notice.urgency) == (what, Urgency.CRITICAL)


def test_words_of_a_plugin_within_a_sentence_have_no_capital_and_period() -> None:
    """They were a sentence of their own."""
    story = Story()
    story.cause(StateCause.UNREACHABLE, words="The plugin failed: boom in poll.")
    (notice,) = story.incidents().values()
    assert notice.what == "Exit-only: the broker does not respond, the plugin failed: boom in poll."


def test_the_summary_names_the_vix_of_the_session() -> None:
    """With its day and source, as READY did; an unknown one is said too."""
    known = {"vix": 16.2, "vix_day": "2026-11-23", "vix_source": "cboe"}
    for ready, words in (
        (known, "equity 100,123.45, VIX 16.2 of 2026-11-23 (cboe)."),
        ({"vix": None}, "equity 100,123.45, VIX unknown."),
        ({"vix_live": True}, "equity 100,123.45."),
    ):
        story = Story()
        story.event(records.READY, READY | ready)
        (said,) = story.event(records.SESSION_CLOSED, CLOSED | {"equity": "100123.45"})
        assert said.what.endswith(words)


def test_not_ready_is_one_incident_until_it_is_ready() -> None:
    """However often it is repeated, with its latest reasons; critical, and over with READY or the session's end."""
    for end, payload in ((records.READY, READY), (records.SESSION_CLOSED, CLOSED), (records.STOPPED, {"open": []})):
        story = Story()
        for reasons in (["no line"], ["no feed: at most 30 symbols.", "not armed"]):
            assert story.event(records.NOT_READY, {"session": "2026-11-24", "reasons": reasons}) == []
        found = story.watch.open_incidents(story.now)["not ready"]
        assert found.what == "NOT READY for the session of 2026-11-24: no feed: at most 30 symbols; not armed."
        assert (found.urgency, found.command) == (Urgency.CRITICAL, "tbot check")
        story.event(end, payload)
        assert "not ready" not in story.watch.open_incidents(story.now)
