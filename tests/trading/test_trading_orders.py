"""The life of an order: every state with every event, and the names of orders."""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import permutations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.model.types import Leg, OrderState
from tbot_core.testing.trades import fill, identity, order
from tbot_core.trading.orders import (
    BROKER_EVENT_KINDS,
    SUPPOSED_PREFIX,
    TERMINAL,
    TRANSITIONS,
    ClientOrderIds,
    OrderEvent,
    OrderRecord,
    TransitionEffect,
    advance,
    execution_update,
    install_mark,
    mark_of,
    transition_table,
)

S, E, D = OrderState, OrderEvent, Decimal
STATES = (S.INTENDED, S.SENDING, S.NEW, S.PARTIALLY_FILLED, S.UNKNOWN, S.LOST, S.FILLED, S.CANCELLED, S.DROPPED)
COLUMNS = "intended sending new partial unknown lost filled cancelled dropped"

# One row an event, one cell a state of COLUMNS: next state and effect; "." stays without effect, "-" is refused.
TABLE = """
send           | sending | -            | -            | -            | -          | -        | - | - | -
drop           | dropped | dropped      | -            | -            | -          | -        | - | - | -
give up        | -       | -            | -            | -            | lost !     | lost !   | - | - | -
no answer      | .       | unknown ?    | . ?          | . ?          | .          | .        | . | . | .
acknowledge    | . !     | new          | . =          | . =          | new        | new      | . ? | . ? | . ?
reject         | . !     | rejected     | . ?          | . ?          | rejected   | rejected | . = | . = | . =
cancel         | . !     | cancelled    | cancelled    | cancelled    | cancelled  | cancelled | . = | . = | . =
cancel refused | . !     | . ?          | . ?          | . ?          | .          | .        | . = | . = | . =
replace        | . !     | new          | .            | .            | new        | new      | . ? | . ? | . ?
trigger        | . !     | new          | .            | .            | new        | new      | . = | . = | . =
expire         | . !     | expired      | expired      | expired      | expired    | expired  | . = | . = | . =
not found      | . !     | unknown ?    | unknown ?    | unknown ?    | . ?        | . ?      | . = | . = | . =
"""
EFFECTS = {
    "": TransitionEffect.NONE,
    "!": TransitionEffect.ALARM,
    "?": TransitionEffect.QUERY,
    "=": TransitionEffect.IGNORE,
}
CELLS = [
    (state, E(row.split("|")[0].strip()), cell.strip())
    for row in TABLE.strip().splitlines()
    for state, cell in zip(STATES, row.split("|")[1:], strict=True)
]


def record(state: OrderState, filled: str = "0") -> OrderRecord:
    """An order of 100 shares in a state."""
    return OrderRecord(order=order(limit="100"), state=state, filled=Decimal(filled))


@pytest.mark.parametrize(("state", "event", "cell"), CELLS)
def test_each_event_leads_from_each_state_where_the_table_says(state: OrderState, event: OrderEvent, cell: str) -> None:
    """The table of the security rules, cell by cell; a deed of ours that is not in it is refused."""
    if cell == "-":
        with pytest.raises(ValueError, match=f"order entry: no {event.value} in state {state.value}"):
            advance(record(state), event)
        return
    word, _, sign = cell.partition(" ")
    after, effect = advance(record(state), event)
    assert after.state is (state if word == "." else S(word))
    assert effect is EFFECTS[sign]
    assert after.filled == 0


def test_every_word_of_a_broker_leads_somewhere_from_every_state() -> None:
    """Nothing that a broker says can stop a session."""
    assert {(state, event) for state in S for event in BROKER_EVENT_KINDS.values()} <= TRANSITIONS.keys()


def test_ended_states_are_alike() -> None:
    """Each final state answers each event like the others, and no event leads out of one."""
    for state in TERMINAL:
        for event in E:
            arrow = TRANSITIONS.get((state, event))
            other = TRANSITIONS.get((S.CANCELLED, event))
            assert (arrow is None) == (other is None)
            if arrow is not None and other is not None:
                assert (arrow.to, arrow.effect) == (state, other.effect)


LIVING = [
    (S.SENDING, TransitionEffect.NONE),
    (S.NEW, TransitionEffect.NONE),
    (S.UNKNOWN, TransitionEffect.NONE),
    (S.LOST, TransitionEffect.NONE),
]


@pytest.mark.parametrize(("state", "effect"), [*LIVING, (S.INTENDED, TransitionEffect.ALARM)])
def test_f22_a_fill_is_booked_also_before_its_acknowledgement(state: OrderState, effect: TransitionEffect) -> None:
    """Part of the quantity is partially filled, the whole is filled; a fill of what was never sent alarms."""
    bought = order(limit="100")
    part, said = advance(record(state), E.FILL, fill(bought, "100", "40"))
    assert (part.state, part.filled, part.open_quantity, said) == (S.PARTIALLY_FILLED, D(40), D(60), effect)
    whole, _ = advance(part, E.FILL, fill(bought, "100", "60", execution="2"))
    assert (whole.state, whole.filled, whole.open_quantity) == (S.FILLED, D(100), D(0))
    late, said = advance(whole, E.ACKNOWLEDGE)
    assert (late.state, said) == (S.FILLED, TransitionEffect.QUERY)


def test_f23_f24_a_fill_seen_before_changes_nothing() -> None:
    """The same execution is booked once, in every state."""
    seen, _ = advance(record(S.NEW), E.FILL, fill(order(limit="100"), "100", "40"))
    for state in S:
        before = attrs.evolve(seen, state=state)
        assert advance(before, E.FILL, fill(order(limit="100"), "101", "40")) == (before, TransitionEffect.IGNORE)


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_f27_a_late_fill_is_booked_and_the_order_stays_ended(state: OrderState) -> None:
    """Fills after the end count, and alarm."""
    late, effect = advance(record(state), E.FILL, fill(order(limit="100"), "100"))
    assert (late.state, late.filled, effect) == (state, D(100), TransitionEffect.ALARM)
    assert late.open_quantity == 0


def test_f28_a_fill_beyond_the_quantity_alarms() -> None:
    """The truth is booked, and how much it is too much."""
    over, effect = advance(record(S.NEW), E.FILL, fill(order(limit="100"), "100", "130"))
    assert (over.state, over.filled, over.overfilled, effect) == (S.FILLED, D(130), D(30), TransitionEffect.ALARM)
    assert (record(S.NEW).overfilled, over.open_quantity) == (D(0), D(0))


def test_executions_that_are_named_later_are_part_of_the_supposed_fill() -> None:
    """What was derived from a cumulative figure is booked once; what goes beyond it is new."""
    bought = order(limit="100")
    jumped, _ = advance(record(S.NEW), E.FILL, fill(bought, "100", "50", f"{SUPPOSED_PREFIX}1"))
    assert (jumped.filled, jumped.inferred_quantity, jumped.state) == (D(50), D(50), S.PARTIALLY_FILLED)
    first, _ = advance(jumped, E.FILL, fill(bought, "100", "30", "a"))
    assert (first.filled, first.inferred_quantity) == (D(50), D(20))
    second, _ = advance(first, E.FILL, fill(bought, "100", "50", "b"))
    assert (second.filled, second.inferred_quantity, second.state) == (D(80), D(0), S.PARTIALLY_FILLED)
    again, effect = advance(second, E.FILL, fill(bought, "100", "50", f"{SUPPOSED_PREFIX}1"))
    assert (again, effect) == (second, TransitionEffect.IGNORE)


@pytest.mark.parametrize("event", [E.ACKNOWLEDGE, E.REPLACE])
def test_what_is_found_again_keeps_what_was_filled(event: OrderEvent) -> None:
    """An order in doubt that a broker knows is new, or partially filled when parts of it were."""
    assert advance(record(S.UNKNOWN), event)[0].state is S.NEW
    found, _ = advance(record(S.UNKNOWN, "40"), event)
    assert (found.state, found.filled) == (S.PARTIALLY_FILLED, D(40))


events = st.lists(st.sampled_from([*BROKER_EVENT_KINDS.values(), E.NO_ANSWER]), max_size=20)


@given(events, st.sampled_from(list(S)), st.data())
def test_final_states_are_final_and_fills_only_grow(
    said: list[OrderEvent], start: OrderState, data: st.DataObject
) -> None:
    """Whatever a broker says in whatever order: no way out of an end, and no fill is lost or booked twice."""
    now = record(start)
    booked: dict[str, Decimal] = {}
    for event in said:
        before = now
        one = None
        if event is E.FILL:
            name = data.draw(st.sampled_from("abc"))
            one = fill(now.order, "100", booked.get(name, Decimal(data.draw(st.integers(1, 60)))).to_eng_string(), name)
            booked.setdefault(name, one.quantity)
        now, _ = advance(now, event, one)
        assert now.filled == sum(booked.values())
        if before.terminal:
            assert now.state is before.state
    assert now.open_quantity + now.filled >= 0


NAMING = ClientOrderIds(install_id="one", identity="US_IBKR_BOT_A1", account_id="DU1")


def test_the_same_order_has_the_same_name() -> None:
    """A retry or a replay after a restart cannot make a second order."""
    again = ClientOrderIds(install_id="one", identity="US_IBKR_BOT_A1", account_id="DU1")
    assert NAMING.client_order_id(identity(), Leg.ENTRY) == again.client_order_id(identity(), Leg.ENTRY, 1)
    assert NAMING.client_order_id(identity(), Leg.ENTRY) == "tb" + NAMING.client_order_id(identity(), Leg.ENTRY)[2:]


def test_everything_that_makes_an_order_makes_its_name() -> None:
    """Install, identity, account, day, strategy, symbol, minute, rule, leg and attempt each give another name."""
    names = [NAMING.client_order_id(identity(), leg) for leg in Leg]
    names += [NAMING.client_order_id(identity(), Leg.EXIT, 2)]
    others = (
        attrs.evolve(NAMING, install_id="two"),
        attrs.evolve(NAMING, identity=""),
        attrs.evolve(NAMING, account_id="DU2"),
    )
    names += [other.client_order_id(identity(), Leg.ENTRY) for other in others]
    signals = (identity("BBB"), identity(minute=26), identity(strategy="mid"), identity(rule="fade"))
    names += [NAMING.client_order_id(signal, Leg.ENTRY) for signal in signals]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("length", [24, 36, 48])
def test_a_name_fits_the_brokers_length_and_alphabet(length: int) -> None:
    """Lower-case letters and digits, cut to the length, the install's mark in front."""
    name = attrs.evolve(NAMING, length=length).client_order_id(identity(), Leg.ENTRY)
    assert re.fullmatch(rf"tb[a-z2-7]{{{length - 2}}}", name)
    assert name == NAMING.client_order_id(identity(), Leg.ENTRY)[:length]
    other = attrs.evolve(NAMING, account_id="DU2", length=length).client_order_id(identity(), Leg.ENTRY)
    assert name[:8] == other[:8] != attrs.evolve(NAMING, install_id="two").client_order_id(identity(), Leg.ENTRY)[:8]


def test_a_name_tells_its_install_and_a_strangers_name_none() -> None:
    """The mark is read from a name of any length that a broker allows."""
    for length in (20, 48, 128):
        name = attrs.evolve(NAMING, length=length).client_order_id(identity(), Leg.ENTRY)
        assert mark_of(name) == install_mark("one") != install_mark("two")
    assert [mark_of(name) for name in ("", "tbone", "TB" + "A" * 30, "tb-" + "a" * 30, "xtb" + "a" * 30)] == [""] * 5


def test_the_table_can_be_printed() -> None:
    """One row an arrow, for the reference."""
    text = transition_table()
    assert text.startswith("| state | event | next state | asks for |\n|---|---|---|---|\n")
    assert "| unknown | give up | lost | alarm |" in text
    assert len(text.splitlines()) == len(TRANSITIONS) + 2


def test_f29_a_bust_takes_away_what_its_execution_had_filled_and_the_order_stays_what_it_was() -> None:
    """In every state, with an alarm; told twice it changes nothing more, and its execution told again is void."""
    bought = order(limit="100")
    part, _ = advance(record(S.NEW), E.FILL, fill(bought, "100", "40", "a"))
    part, _ = advance(part, E.FILL, fill(bought, "100", "30", "b"))
    for state in S:
        before = attrs.evolve(part, state=state)
        after, effect = advance(before, E.BUST, fill(bought, "100", "40", "a"))
        assert (after.state, after.filled, effect) == (state, D(30), TransitionEffect.ALARM)
        again, _ = advance(after, E.BUST, fill(bought, "100", "40", "a"))
        assert (again.filled, again.withdrawn) == (D(30), D(40))
        assert advance(after, E.FILL, fill(bought, "100", "40", "a")) == (after, TransitionEffect.IGNORE)
        changed = execution_update(before, after, fill(bought, "100", "40", "a"))
        assert changed is not None
        assert (changed.is_correction, changed.fill.quantity) == (True, D(0))


def test_f29_a_bust_that_comes_before_its_execution_voids_it() -> None:
    """What is void is never booked, whatever comes later."""
    bought = order(limit="100")
    before = record(S.NEW)
    void, _ = advance(before, E.BUST, fill(bought, "100", "40", "a"))
    assert (void.filled, void.withdrawn) == (D(0), D(40))
    assert execution_update(before, void, fill(bought, "100", "40", "a")) is None
    late, effect = advance(void, E.FILL, fill(bought, "100", "40", "a"))
    assert (late, effect) == (void, TransitionEffect.IGNORE)
    still, _ = advance(void, E.CORRECT, fill(bought, "101", "40", "a"))
    assert still.filled == D(0)


def test_f29_a_correction_has_the_new_terms() -> None:
    """Of what was booked; of what was not told yet it is the fill itself, and the old terms come too late."""
    bought = order(limit="100")
    part, _ = advance(record(S.NEW), E.FILL, fill(bought, "100", "40", "a"))
    after, effect = advance(part, E.CORRECT, fill(bought, "101", "50", "a"))
    assert (after.state, after.filled, effect) == (S.PARTIALLY_FILLED, D(50), TransitionEffect.ALARM)
    assert after.corrected == {"a": D(0)}
    less, _ = advance(after, E.CORRECT, fill(bought, "101", "20", "a"))
    assert less.withdrawn == D(30)
    assert advance(less, E.BUST, fill(bought, "101", "20", "a"))[0].withdrawn == D(50)
    before = record(S.NEW)
    early, effect = advance(before, E.CORRECT, fill(bought, "101", "50", "a"))
    assert (early.state, early.filled, effect) == (S.PARTIALLY_FILLED, D(50), TransitionEffect.NONE)
    first = execution_update(before, early, fill(bought, "101", "50", "a"))
    assert first is not None
    assert not first.is_correction
    assert advance(early, E.FILL, fill(bought, "100", "40", "a")) == (early, TransitionEffect.IGNORE)


@pytest.mark.parametrize("event", [E.ACKNOWLEDGE, E.FILL, E.GIVE_UP])
def test_what_becomes_of_an_order_answers_the_refusal_that_left_it_unknown(event: OrderEvent) -> None:
    """If it is unknown again later, it is so for another reason."""
    bought = order(limit="100")
    before = attrs.evolve(record(S.UNKNOWN), refused_at=5.0)
    after, _ = advance(before, event, fill(bought, "100", "40", "a") if event is E.FILL else None)
    assert after.refused_at is None


def test_f25_fills_in_any_order_come_to_the_same() -> None:
    """Quantity, executions and what was paid do not depend on which came first."""
    one = order(quantity="10")
    parts = [fill(one, price, quantity, execution) for execution, price, quantity in (
        ("a", "100", "2"), ("b", "100.05", "3"), ("c", "99.95", "5"))]  # fmt: skip
    found = set()
    for some in permutations(parts):
        record = OrderRecord(order=one, state=OrderState.NEW)
        for part in some:
            record, _ = advance(record, OrderEvent.FILL, part)
        paid = sum(done.quantity * done.price for done in record.executions.values())
        found.add((record.state, record.filled, paid))
    assert found == {(OrderState.FILLED, Decimal(10), Decimal("999.90"))}
