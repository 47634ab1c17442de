"""The rules of an instrument changed under the bot: asked for anew, written down, and kept to from then on."""

from __future__ import annotations

import asyncio
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.alerts.rules import notices_of_event
from tbot_core.contracts import BrokerCapabilities, BrokerEvent, InstrumentRules, Permit, RejectionMeaning
from tbot_core.engine.session.recovery import SessionRecovery
from tbot_core.errors import Unavailable
from tbot_core.execution import instrument_rules
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.broker_port import BrokerPort
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.instrument_requests import ANSWER_WITHIN_S, InstrumentRequests
from tbot_core.execution.intents import MinuteCommands
from tbot_core.journal import records
from tbot_core.journal.events.accounts import InstrumentRulesReported
from tbot_core.journal.store import Event, Journal, JournalRecorder, NewEvent, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Leg, Order, OrderType, Side, SignalId, atoms_of, ticks_of
from tbot_core.rehearsal.bot import BotProcess, PlannedCrash, bot_config
from tbot_core.rehearsal.world import World
from tbot_core.status.event_lines import EventNarrator
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import fill, proposal, rules, session
from tbot_core.trading import exit_plan
from tbot_core.trading.commands import SubmitOrder
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.risk.holds import Hold, Holds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


SEEDS = (0, 1, 8, 12, 29)
OFF = "42210004 price is not on the tick grid"


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value} {attempt}" + ("" if signal.minute == 25 else f" of {signal.minute}")


class Teller:
    """A broker that takes orders and says nothing of them; it tells rules, or in their place a fault."""

    def __init__(self) -> None:
        self.capabilities = BrokerCapabilities(instruments=True)
        self.found: InstrumentRules | Unavailable = Unavailable("no way")
        self.asked = 0
        self.sent: list[Order] = []

    async def submit(self, order: Order, permit: Permit) -> None:
        """Take an order."""
        permit.redeem()
        self.sent.append(order)

    async def cancel(self, client_order_id: str) -> None:
        """Take a request."""

    async def poll(self) -> Sequence[BrokerEvent]:
        """Nothing is streamed."""
        return ()

    async def instruments(self, symbols: Sequence[str]) -> Sequence[InstrumentRules]:
        """The rules of an instrument."""
        assert symbols == ("AAA",)
        self.asked += 1
        if isinstance(self.found, Unavailable):
            raise self.found
        return (self.found,)


class Bench:
    """A desk that holds 7 AAA at 100 USD, whose stop is on its way to a broker."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.broker = Teller()
        broker: Any = self.broker
        self.clock = ManualClock(session().open)
        self.desk = DecisionEngine(
            rules(venue=BrokerCapabilities(), stop_loss_pct="0.0211"), session(), atoms_of(Decimal(100_000)), name
        )
        venue = BrokerAccount(broker=broker, name="told", account_id="A1")
        self.execution = ExecutionEngine(JournalRecorder(journal=journal, clock=self.clock), venue, self.desk)
        self.instruments = InstrumentRequests(self.execution, self.desk, self.clock)
        self.run(MinuteCommands(decisions=self.desk.decide([proposal(stop=97.89)])))
        self.hear("fill", "AAA entry 1", "100")
        self.settle()

    def run(self, minute: MinuteCommands) -> None:
        """Carry a minute out."""
        asyncio.run(self.execution.execute(minute))

    def settle(self) -> None:
        """Send what is called for."""
        asyncio.run(self.execution.process_broker_events())

    def look(self, seconds: float = 0.5) -> None:
        """Some time passes, the broker is asked, and what is called for is sent."""
        asyncio.run(self.clock.sleep(seconds))
        asyncio.run(self.instruments.run_once())
        self.settle()

    def hear(self, kind: str, cid: str, price: str = "", words: str = "") -> None:
        """Let the broker say a word on an order."""
        order = self.execution.tickets[cid].order
        told = fill(order, price, execution=cid) if price else None
        self.execution.apply_events(
            [
                BrokerEvent(
                    kind=kind,
                    event_id=f"{kind} {cid}",
                    client_order_id=cid,
                    fill=told,
                    words=words,
                    meaning=RejectionMeaning.OFF_GRID if words == OFF else None,
                )
            ]
        )

    def close(self, price: float, minute: int = 40) -> None:
        """Let a minute close at a price."""
        bars = SessionDraft().bar(minute, price, high=price, low=price).bars()
        self.desk.mark(bars, minute)
        self.run(MinuteCommands(actions=self.desk.position_manager.orders_after_minute(bars, minute)))

    @property
    def told(self) -> list[tuple[bool, bool]]:
        """What the journal says of the rules: known or not, and whether they are waited for."""
        found = self.journal.events(kind=records.INSTRUMENT)
        return [(one.payload["known"], one.payload["waiting"]) for one in found]

    @property
    def last(self) -> Order:
        """The last order that was sent."""
        order: Order = self.broker.sent[-1]
        return order


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench whose stop was sent."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        made = Bench(journal)
        assert (made.last.leg, made.last.stop_price) == (Leg.STOP, Decimal("97.89"))
        yield made


def lived(home: Path, seed: int) -> list[Event]:
    """What the journal of a bot says in whose world prices of one instrument become coarser."""
    world = World(seed, (), rates={"F42": 1.0}, live=False)
    folder = home / f"seed{seed}"
    folder.mkdir()
    life = BotProcess(world, world.names[:1], folder, bot_config(world), PlannedCrash(10**9, after=False))
    world.run(life.live)
    life.close()
    with closing(open_journal(folder / "tbot.sqlite")) as journal:
        return list(journal.events())


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_f42_a_coarser_grid_is_asked_for_once_and_kept_to(tmp_path: Path, seed: int) -> None:
    """Nothing is sent blindly: the rules are read, written down, and every later price fits them."""
    events = lived(tmp_path, seed)
    refused = [one for one in events if one.kind == "rejected" and one.payload["words"].startswith("42210004")]
    asked, told = [event for event in events if event.kind == records.INSTRUMENT][:2]
    assert refused
    assert (asked.payload["known"], told.payload["known"], told.payload["tick"]) == (False, True, "0.0500")
    assert refused[0].seq < asked.seq < told.seq
    between = [one.cid for one in events if one.kind == records.SENDING and asked.seq < one.seq < told.seq]
    orders = {one.cid: one for one in events if one.kind == records.INTENDED}
    symbol = asked.payload["symbol"]
    assert not [cid for cid in between if orders[cid].payload["signal"]["symbol"] == symbol]
    later = [one.payload for one in orders.values() if one.seq > told.seq]
    prices = [one[kind] for one in later if one["signal"]["symbol"] == symbol for kind in ("limit_price", "stop_price")]
    remainders = [Decimal(price) % Decimal("0.05") for price in prices if price is not None]
    assert remainders
    assert not any(remainders)


def test_f42_a_stop_that_was_off_the_grid_is_made_at_a_level_that_is_on_it(bench: Bench) -> None:
    """Nothing is sent before the rules are known; then a stop of another number, nearer to the price."""
    bench.hear("rejected", "AAA stop 1", words=OFF)
    bench.settle()
    assert (len(bench.broker.sent), bench.told) == (2, [(False, True)])
    bench.look()
    assert (bench.broker.asked, len(bench.broker.sent)) == (1, 2)  # an answer that failed is no answer
    bench.broker.found = InstrumentRules(symbol="AAA", tick=Decimal("0.05"))
    bench.look()
    assert bench.told == [(False, True), (True, False)]
    assert (bench.last.client_order_id, bench.last.stop_price) == ("AAA stop 2", Decimal("97.90"))
    bench.look()
    assert bench.broker.asked == 2
    assert bench.desk.position_manager.protection is not None
    bench.hear("cancel_refused", "AAA stop 1", words=OFF)  # what was decided before says nothing new
    assert len(bench.told) == 2


def test_f42_a_stop_that_would_be_the_same_is_not_sent_again(bench: Bench) -> None:
    """By rules under which it is on the grid there is no other level: the position is closed."""
    bench.hear("rejected", "AAA stop 1", words=OFF)
    bench.broker.found = InstrumentRules(symbol="AAA", tick=Decimal("0.01"))
    bench.look()
    assert (bench.last.leg, bench.last.type, bench.last.quantity) == (Leg.EXIT, OrderType.MARKET, Decimal(7))


def test_f42_a_broker_that_cannot_say_its_rules_leaves_the_instrument_without_entries(bench: Bench) -> None:
    """After ten seconds the stop is tried once more, then the position closed, and frozen if that is refused."""
    bench.hear("rejected", "AAA stop 1", words=OFF)
    bench.look()
    assert bench.desk.decide([proposal(minute=26)])[0].reason.name == "RULES_UNKNOWN"
    bench.look(ANSWER_WITHIN_S)
    assert bench.told == [(False, True), (False, False)]
    assert bench.last.client_order_id == "AAA stop 2"
    bench.hear("rejected", "AAA stop 2", words=OFF)
    bench.settle()
    assert bench.last.client_order_id == "AAA exit 1"
    assert bench.desk.decide([proposal(minute=27)])[0].reason.name == "RULES_UNKNOWN"
    bench.hear("rejected", "AAA exit 1", words=OFF)
    assert "does not accept this quantity" in bench.desk.exposure.holds.words("AAA", Hold.FROZEN)
    sent = len(bench.broker.sent)
    bench.close(100.0)
    bench.look()
    assert (len(bench.broker.sent), bench.told) == (sent, [(False, True), (False, False)])


def test_f42_a_broker_that_tells_no_rules_is_not_asked(bench: Bench) -> None:
    """It is given up after the same time; nothing of it is inferred."""
    bench.hear("rejected", "AAA stop 1", words=OFF)
    nobody: Any = object()
    mute = attrs.evolve(bench.execution.venue, broker=nobody)
    bench.execution.venue = mute
    asyncio.run(bench.instruments.run_once())
    asyncio.run(bench.clock.sleep(ANSWER_WITHIN_S))
    asyncio.run(bench.instruments.run_once())
    (_, last) = bench.journal.events(kind=records.INSTRUMENT)
    assert last.payload["words"] == "the broker does not report them"


def test_f42_an_exit_is_sent_in_lots_that_the_broker_takes(bench: Bench) -> None:
    """As far as it may be, and stopped alike; what cannot be closed is frozen, not tried again."""
    bench.close(90.0)
    bench.hear("acknowledged", "AAA stop 1")
    bench.desk.position_manager.exits.flatten()
    bench.close(99.0, 41)
    bench.hear("cancelled", "AAA stop 1")
    bench.settle()
    assert (bench.last.leg, bench.last.quantity) == (Leg.EXIT, Decimal(7))
    bench.hear("rejected", bench.last.client_order_id, words=OFF)
    assert not bench.execution.tickets["AAA exit 1"].record.filled
    bench.close(99.0, 42)
    assert len(bench.broker.sent) == 3  # exits wait for the rules
    bench.broker.found = InstrumentRules(symbol="AAA", quantity_step=Decimal(5))
    bench.look()
    assert (bench.last.client_order_id, bench.last.quantity) == ("AAA stop 2", Decimal(5))
    bench.close(99.0, 43)
    bench.hear("cancelled", "AAA stop 2")
    bench.settle()
    assert (bench.last.client_order_id, bench.last.quantity) == ("AAA exit 2", Decimal(5))
    bench.hear("rejected", "AAA exit 2", words=OFF)
    bench.look()
    assert bench.desk.exposure.holds.words("AAA", Hold.FROZEN).startswith("the broker refuses to close it")
    assert bench.desk.exposure.holds.symbols(Hold.FROZEN_FOR_SESSION) == {"AAA"}


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"tradable": False}, "INSTRUMENT_FROZEN"),
        ({"shortable": False}, "NOT_SHORTABLE"),
        ({"shortable": None}, "NOT_SHORTABLE"),
        ({"shortable": True}, "NOT_SHORTABLE"),
        ({"shortable": True, "easy_to_borrow": False}, "NOT_SHORTABLE"),
        ({"shortable": True, "easy_to_borrow": True}, "ALLOWED"),
    ],
)
def test_f42_what_the_rules_forbid_is_denied(bench: Bench, told: dict[str, Any], reason: str) -> None:
    """Not traded any more: frozen, as F44 has it. Not shortable, or not reported as such: no short is entered."""
    bench.hear("fill", "AAA stop 1", "97")
    bench.desk.exposure.holds.add("AAA", Hold.RULES_REQUESTED)
    bench.broker.found = InstrumentRules(symbol="AAA", **told)
    bench.look()
    bench.desk.exposure.traded.clear()
    wanted = [proposal(minute=50, side=Side.SHORT, stop=102.0), proposal(minute=50)]
    short, long = (bench.desk.preview(one) for one in wanted)
    assert (short.reason.name, long.order is None) == (reason, "tradable" in told)


def test_f42_an_entry_keeps_to_the_rules_that_are_known(bench: Bench) -> None:
    """Limit, stop and quantity are multiples of what was told, to the side on which they risk less."""
    bench.hear("fill", "AAA stop 1", "97")
    found = InstrumentRules(symbol="AAA", tick=Decimal("0.25"), quantity_step=Decimal(2))
    bench.desk.exposure.instrument_rules["AAA"] = found
    bench.desk.exposure.traded.clear()
    (decided,) = bench.desk.decide([proposal(minute=50, price=100.1, stop=97.3)])
    assert decided.order is not None
    assert (decided.order.limit_price, decided.order.quantity) == (Decimal("100.25"), Decimal(2))
    bench.run(MinuteCommands(decisions=[decided]))
    bench.hear("fill", decided.order.client_order_id, "100")
    (stop,) = (one.order for one in bench.desk.position_manager.orders_due_now() if isinstance(one, SubmitOrder))
    assert (stop.stop_price, stop.quantity) == (Decimal("97.50"), Decimal(2))


def test_f42_a_restart_knows_the_rules(bench: Bench) -> None:
    """They are read from the journal: asked for, known, or given up."""
    bench.hear("rejected", "AAA stop 1", words=OFF)
    waiting = again(bench)
    assert (waiting.exposure.holds.symbols(Hold.RULES_REQUESTED), waiting.exposure.instrument_rules) == (
        frozenset({"AAA"}),
        {},
    )
    bench.broker.found = InstrumentRules(symbol="AAA", tick=Decimal("0.05"), shortable=False)
    bench.look()
    known = again(bench)
    assert (known.exposure.holds, known.exposure.instrument_rules) == (Holds(), {"AAA": bench.broker.found})
    assert known.exposure.instrument_rules == bench.desk.exposure.instrument_rules


def again(bench: Bench) -> DecisionEngine:
    """The desk of a restart."""
    desk = DecisionEngine(
        rules(venue=BrokerCapabilities(), stop_loss_pct="0.0211"), session(), atoms_of(Decimal(100_000)), name
    )
    execution = ExecutionEngine(bench.execution.recorder, bench.execution.venue, desk)
    recall = SessionRecovery(desk, execution, {"AAA": 0})
    for event in list(bench.journal.events()):
        recall.apply(event)
    return desk


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"known": True, "tick": "0.05", "quantity_step": None}, "prices in steps of 0.05"),
        ({"known": True, "tick": None, "quantity_step": None}, "no steps are given"),
        ({"known": False, "words": "no way"}, "no entries in it for the rest of the session: no way"),
        ({"known": False, "waiting": True, "words": OFF}, "its rules are requested"),
    ],
)
def test_f42_a_person_is_told(payload: dict[str, Any], words: str) -> None:
    """As a line each time, and as a message once it is known or given up."""
    whole = {"symbol": "AAA", "waiting": False, "words": "", **payload}
    entry = NewEvent(kind=records.INSTRUMENT, payload=whole, time=session().open)
    (line,) = EventNarrator().lines_for([entry])
    assert words in line.text
    said = [notice.what for notice in notices_of_event(entry)]
    text = instrument_rules.instrument_rules_text(entry.facts(InstrumentRulesReported))
    assert said == ([] if whole["waiting"] else [f"{text}."])


def test_f42_the_port_to_a_broker_passes_the_question_on() -> None:
    """Figures that are no numbers are no answer."""
    teller = Teller()
    broker = BrokerPort(teller).for_session(ManualClock(session().open))
    teller.found = InstrumentRules(symbol="AAA", tick=Decimal("0.05"))
    assert asyncio.run(broker.instruments(("AAA",))) == (teller.found,)
    teller.found = InstrumentRules(symbol="AAA", tick=Decimal("NaN"))
    with pytest.raises(Unavailable, match="cannot be used: "):
        asyncio.run(broker.instruments(("AAA",)))


def test_levels_move_to_another_grid() -> None:
    """A stop towards the price, a trailed one from where it is; a target with it; nothing changes on the same grid."""
    shape = proposal().exits
    plan = exit_plan.make_exit_plan(
        Side.LONG, (100.0, 97.89, 110.02), attrs.evolve(shape, trailing=True), rules().exits
    )
    plan.set_tick_grid(0)
    assert plan.stop == plan.stop_at_first == ticks_of(97.89)
    plan.set_tick_grid(500)
    assert (plan.stop, plan.stop_at_first, plan.target) == (ticks_of(97.90), ticks_of(97.90), ticks_of(110.05))
    assert plan.trail(103.0, 100.0)
    assert plan.stop % 500 == 0
    moved = plan.stop
    plan.set_tick_grid(1000)
    assert (plan.stop, plan.stop_at_first) == (moved + (-moved) % 1000, ticks_of(97.90))
