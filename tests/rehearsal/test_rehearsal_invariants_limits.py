"""The invariants of limits, money and requests see what breaks them, and nothing else."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.journal import codec, records
from tbot_core.journal.events.accounts import Adjustment
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.model.types import ExitReason, Leg, Order, RiskState
from tbot_core.rehearsal.history import RehearsalHistory
from tbot_core.rehearsal.invariants.limits import LIMIT_INVARIANTS, RiskStates, i3_top_ups, i8_top_ups
from tbot_core.rehearsal.network import NetworkRequest
from tbot_core.rehearsal.venue_matching import VenueFact, fill_effect
from tbot_core.rehearsal.world import World
from tbot_core.testing.trades import fill, journal_event, order, rules

if TYPE_CHECKING:
    from collections.abc import Mapping

MOMENT = dt.datetime(2026, 3, 3, 15, tzinfo=dt.UTC)


class Script:
    """A journal written by hand: 10,000 USD, gross exposure up to 6,000, 4,000 a trade, two positions."""

    def __init__(self) -> None:
        self.story = RehearsalHistory(
            world=World(1, ()),
            name="alpha",
            rules=rules(
                max_gross_exposure="0.6", max_risk_per_trade="0.4", max_open_positions=2, max_trades=3, weights=(1,) * 9
            ),
        )
        self.event(records.SESSION_OPENED, {"equity": "10000"})

    def event(self, kind: str, payload: Mapping[str, Any], cid: str | None = None) -> None:
        """One more event."""
        self.story.events.append(journal_event(len(self.story.events) + 1, kind, payload, MOMENT, cid))

    def intend(self, *orders: Order) -> None:
        """Orders are written down."""
        for one in orders:
            self.event(records.INTENDED, codec.write(OrderIntended.of(one)), one.client_order_id)

    def filled(self, one: Order, price: str) -> None:
        """All of an order is filled, here and at the venue."""
        done = fill(one, price)
        cid = one.client_order_id
        self.event("fill", {"words": ""} | codec.write(Adjustment.of(done)), cid)
        units, atoms = fill_effect(done)
        fact = VenueFact(
            at=MOMENT,
            kind="execution",
            ours=True,
            client_order_id=cid,
            symbol=one.symbol,
            units=units,
            atoms=atoms,
            fill=done,
        )
        self.story.facts.append(fact)

    def violations(self, number: str) -> list[str]:
        """What is violated of one number."""
        check = next(check for check in LIMIT_INVARIANTS if check.__name__ == f"_{number.lower()}")
        return [*check(self.story)]


def buy(symbol: str, quantity: str = "30") -> Order:
    """An entry at 100 USD."""
    return order(name=f"buy-{symbol}", symbol=symbol, quantity=quantity, limit="100")


STATES = [
    ([], "", RiskState.NORMAL),
    ([("MISMATCH", True, "", "")], "", RiskState.EXIT_ONLY),
    ([("MISMATCH", True, "", ""), ("MISMATCH", False, "", "")], "", RiskState.EXIT_ONLY),
    ([("MISMATCH", True, "", ""), ("MISMATCH", False, "over", "")], "", RiskState.NORMAL),
    ([("KILL_FILE", True, "", "")], "", RiskState.HALTED),
    ([("KILL_FILE", True, "", ""), ("KILL_FILE", False, "", "")], "", RiskState.NORMAL),
    ([("HALF_LOSS", True, "", "")], "", RiskState.DEFENSE),
    ([("SOME_NEW_CAUSE", True, "", "")], "", RiskState.EXIT_ONLY),
    ([("MISMATCH", True, "", "")], "beta", RiskState.EXIT_ONLY),
    ([("failover", True, "entries go on", ""), ("MISMATCH", True, "", "")], "beta", RiskState.NORMAL),
    ([("failover", True, "entries go on", ""), ("CLOCK_JUMP", True, "", "")], "beta", RiskState.EXIT_ONLY),
    ([("failover", True, "entries go on", ""), ("MISMATCH", True, "", "beta")], "beta", RiskState.EXIT_ONLY),
    ([("MISMATCH", True, "", "beta")], "", RiskState.NORMAL),
]


@pytest.mark.parametrize(("causes", "broker", "state"), STATES)
def test_the_risk_state_follows_from_the_causes(
    script: Script, causes: list[tuple[str, bool, str, str]], broker: str, state: RiskState
) -> None:
    """A cause lasts until it is over, one of a person until it is withdrawn; an unknown one allows exits only."""
    states = RiskStates()
    for cause, there, words, whose in causes:
        if cause == records.FAILOVER:
            script.event(records.FAILOVER, {"phase": words})
        else:
            script.event(records.STATE, {"cause": cause, "there": there, "words": words, "broker": whose})
        states.apply(script.story.events[-1])
    assert states.state(broker) is state


def test_i3_counts_what_works_at_its_worst_and_what_is_held_at_its_cost(script: Script) -> None:
    """Entries up to the limit pass; one more share beyond it is a violation, whether the others have filled or not."""
    script.intend(buy("A"))
    script.filled(buy("A"), "90")
    script.intend(buy("B", "33"))
    assert script.violations("I3") == []
    script.intend(buy("C", "1"))
    assert [words.split(": ")[1] for words in script.violations("I3")] == [
        "gross exposure 61000000000000, 60000000000000 allowed",
        "positions and entries 3, 2 allowed",
    ]
    script.event(records.NO_ANSWER, {"words": ""}, "buy-B")
    script.intend(buy("D", "1"))
    assert any("entries of open 4, 3 allowed" in words for words in script.violations("I3"))


@pytest.mark.parametrize(("reference", "count"), [({}, 0), ({"reference": 100.2}, 0), ({"reference": 100.3}, 1)])
def test_i3_counts_a_short_at_the_higher_of_limit_and_reference(
    script: Script, reference: dict[str, float], count: int
) -> None:
    """A short at its limit or better may fill above the limit."""
    short = order(name="sell-A", symbol="A", buy=False, quantity="39.92", limit="99.9")
    script.event(records.DECISION, {"price": 100.1} | reference, short.client_order_id)
    script.intend(short)
    assert len([words for words in script.violations("I3") if "exposure in A" in words]) == count


def limited(script: Script, **settings: Any) -> None:
    """Other limits than the usual ones."""
    indices = settings.pop("indices", {})
    wide = {"max_gross_exposure": "0.9", "max_risk_per_trade": "0.9", "max_open_positions": 9, "max_trades": 9}
    script.story.rules = rules(indices, **(wide | {"weights": (1,) * 9} | settings))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_leverage": "0.5"}, ["leveraged exposure"]),
        ({"max_symbol_exposure": "0.3"}, ["exposure in B"]),
        ({"max_symbol_exposure": "0.8", "max_risk_per_trade": "0.3"}, ["exposure in B"]),
        ({"max_leverage": "0.6", "max_symbol_exposure": "0.4"}, []),
    ],
)
def test_i3_knows_the_limits_of_leverage_and_symbol(script: Script, settings: dict[str, str], words: list[str]) -> None:
    """Each by itself; of MAX_RISK_PER_TRADE and MAX_SYMBOL_EXPOSURE the smaller one binds."""
    limited(script, **settings)
    script.intend(buy("A", "20"), buy("B", "40"))
    found = script.violations("I3")
    assert len(found) == len(words)
    assert all(word in one for word, one in zip(words, found, strict=True))


@pytest.mark.parametrize(
    ("factors", "filled", "count"),
    [
        ({"A": "1", "B": "1"}, False, 1),
        ({"A": "1", "B": "-1"}, False, 0),
        ({"A": "1", "B": "-1"}, True, 0),
        ({"A": "2"}, True, 1),
        ({"C": "5"}, True, 0),
        ({"A": "1", "B": "2"}, True, 1),
    ],
)
def test_i3_knows_the_limit_of_an_index(script: Script, factors: dict[str, str], *, filled: bool, count: int) -> None:
    """What is held is netted, what works on the other side may not fill, and a fund counts with its leverage."""
    index = {"index": {symbol: Decimal(factor) for symbol, factor in factors.items()}}
    limited(script, max_index_exposure="0.3", max_leverage="4", indices=index)
    script.intend(buy("A", "20"))
    if filled:
        script.filled(buy("A", "20"), "100")
    script.intend(buy("B", "20"))
    assert len([words for words in script.violations("I3") if "exposure in index" in words]) == count


def test_i3_lets_go_of_what_has_ended(script: Script) -> None:
    """A cancelled entry and a closed position leave room; an unknown one does not."""
    script.intend(buy("A", "40"), buy("B", "20"))
    script.event("cancelled", {"words": ""}, "buy-A")
    script.filled(buy("B", "20"), "100")
    leave = order(Leg.EXIT, name="sell-B", symbol="B", quantity="20")
    script.intend(leave)
    script.filled(leave, "101")
    script.intend(buy("C", "40"))
    assert script.violations("I3") == []
    script.event(records.NO_ANSWER, {"words": ""}, "buy-C")
    script.event(records.LOST, {}, "buy-C")
    over = order(name="buy-C-again", symbol="D", quantity="21", limit="100")
    script.intend(over)
    assert any("gross exposure" in words for words in script.violations("I3"))


def test_i5_compares_money_order_by_order(script: Script) -> None:
    """What the journal says an order cost is what it cost, to the atom; a fill that it lacks is a violation."""
    one, other = buy("A"), buy("B")
    script.intend(one, other)
    script.filled(one, "99.5")
    script.story.held = {}
    assert script.violations("I5") == []
    script.filled(other, "99.5")
    script.story.events.pop()
    assert [words.split()[0] for words in script.violations("I5")] == ["buy-B"]


def test_i18_sees_a_request_beyond_the_venues_limit(script: Script) -> None:
    """Requests that the venue turned away for its own limit are violations, those of a storm are not."""
    script.story.way.requests.append(NetworkRequest(at=1.0, kind="submit", client_order_id="x", outcome="429 storm"))
    assert script.violations("I18") == []
    script.story.way.requests.append(NetworkRequest(at=1.0, kind="cancel", client_order_id="x", outcome="429"))
    assert script.violations("I18") == ["cancel x at 1.000 s exceeded the limit per minute"]


def test_nothing_is_entered_after_the_daily_loss_latch(script: Script) -> None:
    """Exits go on; an entry after the latch is a violation."""
    script.intend(buy("A"))
    script.event(records.RISK, {"what": "daily loss latch", "cause": "", "value": "0", "limit": "0"})
    script.intend(order(Leg.EXIT, name="sell-A", symbol="A"))
    assert script.violations("LATCH") == []
    script.intend(buy("B", "1"))
    assert len(script.violations("LATCH")) == 1


def test_a_latch_that_is_set_a_second_time_had_been_forgotten(script: Script) -> None:
    """Each strategy has a latch of its own, and each is set once."""
    for name in ("A", "B"):
        script.event(records.RISK, {"what": f"window loss latch of {name}", "cause": "", "value": "0", "limit": "0"})
    assert script.violations("LATCH") == []
    script.event(records.RISK, {"what": "window loss latch of A", "cause": "", "value": "0", "limit": "0"})
    assert len(script.violations("LATCH")) == 1


def test_i12_sees_an_exit_that_is_not_capped_to_what_is_held(script: Script) -> None:
    """An exit for what is left passes, one for what was entered does not; a bracket may be as large as its entry."""
    stop = order(Leg.STOP, name="stop-A", symbol="A", quantity="30")
    script.intend(attrs.evolve(buy("A"), protection=(stop,)), stop)
    script.filled(buy("A"), "99")
    some = order(Leg.EXIT, name="sell-A", symbol="A", quantity="10")
    script.intend(some)
    script.filled(some, "99")
    script.intend(order(Leg.EXIT, name="sell-A-2", symbol="A", quantity="20"))
    assert script.violations("I12_capped") == []
    script.intend(order(Leg.EXIT, name="sell-A-3", symbol="A", quantity="30"))
    assert script.violations("I12_capped") == ["sell-A-3 is for 30000000 units, and 20000000 were held"]
    script.story.world.faults.count("F28")
    assert script.violations("I12_capped") == ["sell-A-3 is for 30000000 units, and 20000000 were held"]


def test_i12_sees_an_exit_that_is_sent_again_for_more_than_is_left(script: Script) -> None:
    """What was held when it was intended may have been closed, or be void, since."""
    entry = order(symbol="A", quantity="10", limit="100")
    script.intend(entry)
    script.filled(entry, "100")
    exits = [order(Leg.EXIT, name, symbol="A", quantity="10", limit="100") for name in ("first", "second")]
    script.intend(*exits)
    script.event(records.SENT_AGAIN, {}, "second")
    assert script.violations("I12_capped") == []
    script.filled(exits[0], "100")
    script.event(records.SENT_AGAIN, {}, "second")
    assert script.violations("I12_capped") == ["second is for 10000000 units, and 0 were held"]


@pytest.mark.parametrize(
    ("stop", "freed", "found"),
    [("7", "", 0), ("8", "", 1), ("10", "cancelled", 0), ("10", "filled", 0)],
)
def test_i12_sees_a_trim_beside_a_stop_for_all(script: Script, stop: str, freed: str, found: int) -> None:
    """Together they are for what is held; a stop that has ended before, or a trim that is filled, counts no more."""
    entry = order(symbol="A", quantity="10", limit="100")
    script.intend(entry)
    script.filled(entry, "100")
    resting = order(Leg.STOP, "stop", symbol="A", quantity=stop, stop="90", buy=False)
    trim = order(Leg.EXIT, "trim", symbol="A", quantity="3", limit="100", reason=ExitReason.REBALANCE)
    script.intend(resting)
    if freed == "cancelled":
        script.event("cancelled", {"words": ""}, "stop")
    elif freed == "filled":
        script.filled(resting, "90")
    script.intend(trim)
    assert len(script.violations("I12_trimmed")) == found


def test_i12_lets_what_was_filled_too_much_be_taken_back_once(script: Script) -> None:
    """A stop that filled after its entry was void has sold short: buying back so much passes, a share more does not."""
    entry, stop = buy("A"), order(Leg.STOP, name="stop-A", symbol="A", quantity="30")
    script.intend(attrs.evolve(entry, protection=(stop,)), stop)
    script.filled(entry, "99")
    script.event("busted", {"words": ""} | codec.write(Adjustment.of(fill(entry, "99"))), "buy-A")
    script.filled(stop, "98")
    script.intend(back(31, "over"))
    assert script.violations("I12_capped") == ["over is for 31000000 units, and 30000000 were held"]
    script.story.events.pop()
    script.intend(back(30, "back"))
    script.filled(back(30, "back"), "99")
    assert script.violations("I12_capped") == []
    script.intend(back(1, "again"))
    assert script.violations("I12_capped") == ["again is for 1000000 units, and 0 were held"]


def test_i12_sees_what_is_taken_back_the_wrong_way_or_by_an_exit_of_nothing(script: Script) -> None:
    """Selling adds to what was sold too much, and an exit that is none of these closes a position alone."""
    script.intend(buy("A"))
    script.filled(buy("A"), "99")
    stop = order(Leg.STOP, name="stop-A", symbol="A", quantity="30")
    script.intend(stop)
    script.filled(attrs.evolve(stop, quantity=Decimal(40)), "98")
    script.event(records.CORPORATE_ACTION, {"symbol": "A", "after": 2, "before": 1})
    script.intend(back(20, "back"))
    script.intend(attrs.evolve(back(20, "sells"), buy=False))
    script.intend(attrs.evolve(back(20, "exit"), reason=ExitReason.STOP))
    assert script.violations("I12_capped") == [
        "sells is for 20000000 units, and 0 were held",
        "exit is for 20000000 units, and 0 were held",
    ]


def test_i12_asks_nothing_of_a_signal_that_it_does_not_know(script: Script) -> None:
    """What was entered before the journal begins is none of its business."""
    script.intend(order(Leg.EXIT, name="sell-A", symbol="A", quantity="20"))
    assert script.violations("I12_capped") == []


def back(shares: int, name: str) -> Order:
    """An order that buys back what was sold too much of A."""
    one = order(Leg.EXIT, name=name, symbol="A", quantity=f"{shares}", buy=True)
    return attrs.evolve(one, reason=ExitReason.EXCESS)


def test_a_day_ends_with_a_statement(script: Script) -> None:
    """A session that is closed was stated after its last execution; one that died is not asked for it."""
    script.intend(buy("A"))
    script.event(records.STATEMENT, {})
    script.filled(buy("A"), "99")
    assert script.violations("STATEMENT_MADE") == []
    script.event(records.SESSION_CLOSED, {})
    assert len(script.violations("STATEMENT_MADE")) == 1
    script.event(records.STATEMENT, {})
    assert script.violations("STATEMENT_MADE") == []


def add(script: Script, quantity: str, price: float) -> Order:
    """A top-up of A is decided at a price and written down."""
    one = order(name=f"add-{quantity}", symbol="A", quantity=quantity, limit="96", reason=ExitReason.REBALANCE)
    script.event(records.TOP_UP, {"price": price, "side": "long"}, one.client_order_id)
    script.intend(one)
    return one


def test_i3_a_top_up_reaches_the_target_and_never_passes_it(script: Script) -> None:
    """30 shares at 95 were entered: at 96 one more is too much after a trim of one, and at 94 it is added to a loss."""
    script.intend(buy("A"))
    script.filled(buy("A"), "95")
    trim = order(Leg.EXIT, name="trim", symbol="A", quantity="1", reason=ExitReason.REBALANCE)
    script.intend(trim)
    script.filled(trim, "97")
    add(script, "0.5", 95.5)
    script.event("expired", {"words": ""}, "add-0.5")
    assert [*i3_top_ups(script.story)] == []
    add(script, "1", 96)
    assert [words.split()[:2] for words in i3_top_ups(script.story)] == [["add-1", "takes"]]
    script.story.events = script.story.events[:-2]
    add(script, "0.2", 94)
    assert [words.split()[:2] for words in i3_top_ups(script.story)] == [["add-0.2", "adds"]]


def test_i8_nothing_is_added_to_a_position_that_is_being_closed_or_in_defense(script: Script) -> None:
    """A top-up may leave while a trim is out, and once an exit has ended; not beside an exit, nor in defense."""
    script.intend(buy("A"))
    script.filled(buy("A"), "95")
    script.intend(order(Leg.EXIT, name="trim", symbol="A", quantity="1", reason=ExitReason.REBALANCE))
    one = add(script, "1", 95.5)
    script.event(records.SENDING, {}, one.client_order_id)
    leave = order(Leg.EXIT, name="leave", symbol="A", quantity="30", reason=ExitReason.TIME)
    script.intend(leave)
    script.event("rejected", {"words": ""}, "leave")
    script.event(records.SENDING, {}, one.client_order_id)
    assert [*i8_top_ups(script.story)] == []
    script.intend(attrs.evolve(leave, client_order_id="again"))
    script.event(records.SENDING, {}, one.client_order_id)
    assert [*i8_top_ups(script.story)] == ["add-1 was sent while again closes its position"]
    script.filled(attrs.evolve(leave, client_order_id="again"), "95")
    script.event(records.STATE, {"cause": "DEFENSE_COMMAND", "there": True, "words": "", "state": "defense"})
    script.event(records.SENDING, {}, one.client_order_id)
    assert [*i8_top_ups(script.story)][1:] == ["add-1 adds to a position while defense"]
