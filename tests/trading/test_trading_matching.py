"""The rule book of simulated fills, rule by rule and minute by minute."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from tbot_core.contracts.settings import SimulationSettings
from tbot_core.model.types import Leg, Order
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import order, session
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import MatchingEngine, last_close_ticks
from tbot_core.trading.price_grid import tick_of
from tbot_core.trading.risk.account import buying_power
from tbot_core.trading.slippage import Slippage

if TYPE_CHECKING:
    from tbot_core.model.bars import Bars

SIGNAL = 25
FIRST = 26
FREE = FillCosts(slippage=Slippage(kind="none", mean=0.0, deviation=0.0, seed=0))
Said = list[tuple[str, str, int | None, str, str]]


def trade(entry: Order, bars: Bars, costs: FillCosts = FREE, last: int = 40) -> Said:
    """What a venue says of an order sent after the signal bar: kind, order, minute, shares, price."""
    venue = MatchingEngine(costs, session(), bars.symbols)
    venue.accept(entry, SIGNAL)
    for minute in range(FIRST, last + 1):
        venue.match(bars, minute)
    return said(venue)


def said(venue: MatchingEngine) -> Said:
    """The venue's events in short."""
    short: Said = []
    for event in venue.events():
        fill = event.fill
        if fill is None:
            short.append((event.kind, event.client_order_id, None, "", ""))
        else:
            minute = session().minute(fill.time)
            short.append((event.kind, event.client_order_id, minute, str(fill.quantity), str(fill.price)))
    return short


def fills(short: Said) -> list[tuple[str, int | None, str, str]]:
    """The fills alone."""
    return [(name, minute, shares, price) for kind, name, minute, shares, price in short if kind == "fill"]


def kinds(short: Said) -> list[str]:
    """Kind and order of each event."""
    return [f"{kind} {name}" for kind, name, *_ in short]


def bracket(limit: str | None = "100.20", stop: str | None = "98.00", target: str | None = None, **more: str) -> Order:
    """A long entry of 100 shares with its protection."""
    quantity = more.get("quantity", "100")
    protection = []
    if stop is not None:
        protection.append(order(Leg.STOP, stop=stop, quantity=quantity))
    if target is not None:
        protection.append(order(Leg.TARGET, limit=target, quantity=quantity))
    return order(Leg.ENTRY, quantity=quantity, protection=tuple(protection), limit=limit or "")


def short_bracket(limit: str = "99.80", stop: str = "102.00", target: str | None = None) -> Order:
    """A short entry of 100 shares with its protection."""
    protection = [order(Leg.STOP, stop=stop, buy=True)]
    if target is not None:
        protection.append(order(Leg.TARGET, limit=target, buy=True))
    return order(Leg.ENTRY, limit=limit, buy=False, protection=tuple(protection))


@pytest.mark.parametrize(
    ("missing", "minute"),
    [(0, 26), (1, 27), (2, 28), (3, None)],
)
def test_an_entry_meets_the_first_bar_of_three_minutes(missing: int, minute: int | None) -> None:
    """The fill bar is the first existing one of the three minutes after the signal bar; a fourth is too late."""
    short = trade(bracket(), SessionDraft().gap(FIRST, FIRST + missing).bars())
    assert [found for _, found, *_ in fills(short)] == ([] if minute is None else [minute])
    if minute is None:
        assert kinds(short) == ["acknowledged entry", "expired entry", "expired stop"]


def test_an_entry_is_given_up_in_its_third_minute_not_later() -> None:
    """The window ends with its third minute: the bar that returns in the fourth finds nothing resting."""
    venue = MatchingEngine(FREE, session(), ("AAA",))
    venue.accept(bracket(), SIGNAL)
    bars = SessionDraft().gap(FIRST, FIRST + 3).bars()
    for minute, idle in ((26, False), (27, False), (28, True)):
        venue.match(bars, minute)
        assert venue.idle is idle


@pytest.mark.parametrize(
    ("latency_ms", "minute"),
    [(0, 26), (59_999, 26), (60_000, 27), (119_999, 27), (120_000, 28), (600_000, 36)],
)
def test_latency_counts_in_whole_minutes(latency_ms: int, minute: int) -> None:
    """Under a minute latency changes nothing; each whole minute moves the fill bar by one."""
    costs = attrs.evolve(FREE, lag=FillCosts.of(SimulationSettings(simulated_latency_ms=latency_ms), "through").lag)
    assert fills(trade(bracket(), SessionDraft().bars(), costs)) == [("entry", minute, "100", "100.0000")]


@pytest.mark.parametrize(
    ("opened", "low", "price"),
    [
        (99.50, 99.50, "99.5000"),  # opens better
        (100.20, 100.20, "100.2000"),  # opens at the limit
        (100.21, 100.20, None),  # touched, not through
        (100.21, 100.1901, None),  # through by less than a tick
        (100.21, 100.19, "100.2000"),  # through by a tick
        (101.00, 99.00, "100.2000"),  # opens beyond and comes back
        (101.00, 100.50, None),  # never comes back
    ],
)
def test_a_limit_buy_fills_at_its_open_or_when_traded_through(opened: float, low: float, price: str | None) -> None:
    """At the open if within the limit, else at the limit if the bar trades through by a tick, else not."""
    bars = SessionDraft().bar(FIRST, opened, open=opened, low=low, high=opened).bars()
    found = fills(trade(bracket(stop=None), bars))
    assert found == ([] if price is None else [("entry", FIRST, "100", price)])


@pytest.mark.parametrize(
    ("opened", "high", "price"),
    [
        (100.50, 100.50, "100.5000"),
        (99.80, 99.80, "99.8000"),
        (99.79, 99.80, None),
        (99.79, 99.81, "99.8000"),
        (99.00, 99.50, None),
    ],
)
def test_a_limit_sale_is_the_mirror(opened: float, high: float, price: str | None) -> None:
    """A short entry fills at its open at or above the limit, else at the limit when traded through by a tick."""
    bars = SessionDraft().bar(FIRST, opened, open=opened, low=opened, high=high).bars()
    found = fills(trade(short_bracket(), bars))
    assert [(name, shown) for name, _, _, shown in found] == ([] if price is None else [("entry", price)])


@pytest.mark.parametrize(
    ("limit", "low", "filled"),
    [("1.00", 0.9999, True), ("1.00", 1.0, False), ("1.01", 1.0, True), ("1.01", 1.0001, False), ("0.5", 0.4999, True)],
)
def test_a_tick_below_a_dollar_is_finer(limit: str, low: float, filled: bool) -> None:
    """Through by a tick: 0.01 from 1 USD up, 0.0001 below, on the side the price moves to."""
    opened = float(limit) + 0.02
    bars = SessionDraft(price=opened).bar(FIRST, opened, low=low).bars()
    assert bool(fills(trade(bracket(limit, stop=None), bars))) is filled


def test_the_tick_changes_at_a_dollar() -> None:
    """0.01 USD from 1 USD up, 0.0001 below."""
    assert [tick_of(ticks) for ticks in (1, 9_999, 10_000, 1_000_000)] == [1, 1, 100, 100]


def test_a_market_entry_fills_at_its_open_whatever_the_price() -> None:
    """A market entry takes the open of its fill bar."""
    bars = SessionDraft().bar(FIRST, 140.0, open=150.0).bars()
    assert fills(trade(bracket(None, stop=None), bars)) == [("entry", FIRST, "100", "150.0000")]


@pytest.mark.parametrize(
    ("volume", "shares"),
    [(1000.0, "100"), (999.0, "99"), (1005.0, "100"), (10_000.0, "200"), (9.0, None), (0.0, None), (np.nan, None)],
)
def test_volume_caps_an_entry_and_its_rest_is_cancelled(volume: float, shares: str | None) -> None:
    """At most VOLUME_LIMIT of the bar in whole shares, nothing of an empty one, and no second bar for the rest."""
    costs = attrs.evolve(FREE, share_cap=(1, 10))
    bars = SessionDraft().bar(FIRST, 100.0, volume=volume).bars()
    short = trade(bracket(quantity="200"), bars, costs)
    assert [found for name, _, found, _ in fills(short) if name == "entry"] == ([] if shares is None else [shares])
    assert ("expired entry" in kinds(short)) is (shares != "200")
    assert ("expired stop" in kinds(short)) is (shares is None)


@pytest.mark.parametrize(("uncapped", "shares"), [(frozenset({"BBB"}), "100"), (frozenset({"AAA"}), "200")])
def test_no_cap_applies_to_a_symbol_with_partial_volume(uncapped: frozenset[str], shares: str) -> None:
    """VOLUME_LIMIT is off for that symbol alone."""
    costs = attrs.evolve(FREE, share_cap=(1, 10)).without_volume_limit(uncapped)
    bars = SessionDraft().bar(FIRST, 100.0, volume=1000.0).bars()
    assert next(found for name, _, found, _ in fills(trade(bracket(quantity="200"), bars, costs))) == shares


def test_no_volume_limit_still_needs_volume() -> None:
    """VOLUME_LIMIT=0 lifts the cap, and volume 0 fills nothing all the same."""
    assert FillCosts.of(SimulationSettings(volume_limit=Decimal(0)), "through").share_cap is None
    assert fills(trade(bracket(quantity="5000"), SessionDraft().bars())) == [("entry", FIRST, "5000", "100.0000")]
    assert fills(trade(bracket(), SessionDraft().bar(FIRST, 100.0, volume=0).bars())) == []


@pytest.mark.parametrize("field", ["open", "high", "low", "close"])
def test_a_bar_with_an_unknown_price_is_no_bar(field: str) -> None:
    """A minute that lacks any price is like one without a bar: the entry meets the next."""
    bars = SessionDraft().bars()
    bars.field(field)[FIRST] = np.nan
    assert [minute for _, minute, *_ in fills(trade(bracket(), bars))] == [FIRST + 1]


STOPS = [
    # minute, open, low, price
    (30, 99.0, 98.0, "98.0000"),  # touched
    (30, 99.0, 98.0001, None),  # not touched
    (30, 97.0, 96.0, "97.0000"),  # opens beyond: at the open, not at the level
    (30, 98.0, 90.0, "98.0000"),
]


@pytest.mark.parametrize(("minute", "opened", "low", "price"), STOPS)
def test_a_stop_fills_at_the_worse_of_stop_and_open(minute: int, opened: float, low: float, price: str | None) -> None:
    """A stop triggers when the bar touches it, and a bar that opens beyond it fills at its open."""
    bars = SessionDraft().bar(minute, opened, open=opened, low=low).bars()
    found = fills(trade(bracket(), bars))[1:]
    assert found == ([] if price is None else [("stop", minute, "100", price)])


@pytest.mark.parametrize(("opened", "high", "price"), [(101.0, 102.0, "102.0000"), (103.0, 104.0, "103.0000")])
def test_a_short_stop_is_the_mirror(opened: float, high: float, price: str) -> None:
    """A short's stop buys at the worse, the higher, of stop and open."""
    bars = SessionDraft().bar(30, opened, open=opened, high=high).bars()
    assert fills(trade(short_bracket(), bars))[1:] == [("stop", 30, "100", price)]


TARGETS = [
    (102.0, 102.0, "through", None),  # touched only
    (102.0, 102.0, "touch", "102.0000"),
    (101.0, 102.0099, "through", None),
    (101.0, 102.01, "through", "102.0000"),
    (103.0, 103.5, "through", "103.0000"),  # opens better
    (101.0, 101.99, "touch", None),
]


@pytest.mark.parametrize(("opened", "high", "how", "price"), TARGETS)
def test_a_target_fills_at_the_better_of_target_and_open(
    opened: float, high: float, how: str, price: str | None
) -> None:
    """TARGET_FILL=through needs a tick beyond, =touch does not; an open beyond is taken."""
    costs = attrs.evolve(FREE, through=FillCosts.of(SimulationSettings(), how).through)
    bars = SessionDraft().bar(30, opened, open=opened, high=high, low=100.0).bars()
    short = trade(bracket(target="102.00"), bars, costs)
    assert fills(short)[1:] == ([] if price is None else [("target", 30, "100", price)])
    assert ("cancelled stop" in kinds(short)) is (price is not None)


def test_a_target_waits_for_volume() -> None:
    """A bar without volume that trades through fills nothing; the next one does."""
    bars = SessionDraft().bar(30, 103.0, volume=0).bar(31, 104.0).bars()
    assert fills(trade(bracket(target="102.00"), bars))[1:] == [("target", 31, "100", "104.0000")]


def test_a_short_target_is_the_mirror() -> None:
    """A short's target buys at or under its limit, better at a lower open."""
    for opened, low, price in ((99.0, 97.99, "98.0000"), (97.5, 97.0, "97.5000")):
        bars = SessionDraft().bar(30, opened, open=opened, low=low).bars()
        assert fills(trade(short_bracket(target="98.00"), bars))[1:] == [("target", 30, "100", price)]


def test_when_one_bar_touches_both_the_stop_counts() -> None:
    """Stop and target in one bar: the stop fills, the target is cancelled."""
    bars = SessionDraft().bar(30, 100.0, low=97.0, high=103.0).bars()
    short = trade(bracket(target="102.00"), bars)
    assert fills(short)[1:] == [("stop", 30, "100", "98.0000")]
    assert "cancelled target" in kinds(short)


def test_a_stop_lives_within_the_entry_bar() -> None:
    """The entry bar itself can stop the position out."""
    bars = SessionDraft().bar(FIRST, 99.0, open=100.0, low=97.5).bars()
    assert fills(trade(bracket(), bars)) == [("entry", FIRST, "100", "100.0000"), ("stop", FIRST, "100", "98.0000")]


@pytest.mark.parametrize(
    ("opened", "limit", "minute"),
    [(100.0, "100.20", FIRST), (100.50, "100.20", FIRST + 1), (100.50, None, FIRST)],
)
def test_a_target_counts_in_the_entry_bar_only_after_an_open(opened: float, limit: str | None, minute: int) -> None:
    """After an entry at the limit the bar's high may lie before the fill: the target waits for the next bar."""
    draft = SessionDraft().bar(FIRST, 100.0, open=opened, low=99.0, high=103.0).bar(FIRST + 1, 103.0)
    found = fills(trade(bracket(limit, target="102.00"), draft.bars()))
    assert [(name, at) for name, at, *_ in found] == [("entry", FIRST), ("target", minute)]


def test_a_triggered_stop_fills_its_rest_at_the_next_opens() -> None:
    """The volume cap leaves a rest of a stop; it has become a market order, wherever price goes; its target is gone."""
    costs = attrs.evolve(FREE, share_cap=(1, 10))
    draft = SessionDraft().bar(30, 98.0, open=99.0, low=97.0, volume=300).bar(31, 99.5, volume=0)
    draft.bar(32, 105.0, volume=500).bar(33, 99.0, volume=1000)
    short = trade(bracket(target="102.00"), draft.bars(), costs)
    assert fills(short)[1:] == [
        ("stop", 30, "30", "98.0000"),
        ("stop", 32, "50", "105.0000"),
        ("stop", 33, "20", "99.0000"),
    ]


@pytest.mark.parametrize(("volume", "said_of_it"), [(9, 1), (10, 0), (1000, 0)])
def test_a_stop_that_triggers_without_a_fill_is_reported(volume: int, said_of_it: int) -> None:
    """A bar that leaves it no whole share says that it has triggered; a fill says so by itself."""
    costs = attrs.evolve(FREE, share_cap=(1, 10))
    draft = SessionDraft().bar(30, 98.0, low=97.0, volume=volume).bar(31, 105.0)
    short = trade(bracket(), draft.bars(), costs)
    assert kinds(short).count("triggered stop") == said_of_it
    assert {at for name, at, *_ in fills(short) if name == "stop"} <= {30, 31}


def test_a_target_without_a_stop_fills_alone() -> None:
    """Plans whose stop acts on closes let only a target rest; another symbol's stop is none of its business."""
    venue = MatchingEngine(FREE, session(), ("AAA", "BBB"))
    venue.accept(bracket(stop=None, target="102.00"), SIGNAL)
    venue.accept(order(Leg.STOP, "other", stop="90", symbol="BBB"), SIGNAL)
    bars = SessionDraft("AAA", "BBB").bar(30, 103.0).bars()
    for minute in range(FIRST, 31):
        venue.match(bars, minute)
    assert fills(said(venue))[1:] == [("target", 30, "100", "103.0000")]
    assert not venue.idle


def test_a_target_filled_in_part_leaves_a_stop_for_the_rest() -> None:
    """Target and stop together never close more than is held."""
    costs = attrs.evolve(FREE, share_cap=(1, 10))
    draft = SessionDraft().bar(30, 103.0, volume=400).bar(31, 97.0)
    short = trade(bracket(target="102.00"), draft.bars(), costs)
    assert fills(short)[1:] == [("target", 30, "40", "103.0000"), ("stop", 31, "60", "97.0000")]


def test_protection_is_sized_to_what_was_filled() -> None:
    """The stop of an entry filled in part closes that part, and the order ends as expired."""
    costs = attrs.evolve(FREE, share_cap=(1, 10))
    draft = SessionDraft().bar(FIRST, 100.0, volume=300).bar(30, 97.0, volume=9000)
    short = trade(bracket(), draft.bars(), costs)
    assert fills(short) == [("entry", FIRST, "30", "100.0000"), ("stop", 30, "30", "97.0000")]
    assert kinds(short)[-1] == "expired stop"


def test_an_exit_meets_the_open_before_anything_else() -> None:
    """A market exit fills at the next bar's open and keeps filling, bar after bar, where there is no bar it waits."""
    costs = attrs.evolve(FREE, share_cap=(1, 10))
    venue = MatchingEngine(costs, session(), ("AAA",))
    bars = SessionDraft().bar(31, 99.0, open=101.0, volume=600).gap(32, 37).bars()
    venue.accept(order(Leg.EXIT), 30)
    for minute in range(31, 40):
        venue.match(bars, minute)
    assert fills(said(venue)) == [("exit", 31, "60", "101.0000"), ("exit", 37, "40", "100.0000")]
    assert venue.idle


def test_a_restored_session_goes_on_as_if_it_had_not_ended() -> None:
    """Resting orders, accepted ids and the number of events are its whole state; the rows may have moved."""
    bars = SessionDraft("AAA", "BBB").bars()
    venue = MatchingEngine(FREE, session(), ("AAA", "BBB"))
    venue.accept(order(limit="100", symbol="BBB"), SIGNAL)
    again = MatchingEngine(FREE, session(), ("BBB", "AAA"))
    again.restore(venue.resting, ["entry"], venue.count)
    again.accept(order(limit="100", symbol="BBB"), SIGNAL)  # its id was accepted before
    assert again.events() == []
    moved = SessionDraft("BBB", "AAA").bars()
    venue.match(bars, FIRST)
    again.match(moved, FIRST)
    assert said(again) == said(venue)[1:]


def test_exits_meet_a_minute_before_entries() -> None:
    """What frees cash is booked first, in whatever order the two were sent."""
    venue = MatchingEngine(FREE, session(), ("AAA", "BBB"))
    venue.accept(order(limit="100", symbol="BBB"), SIGNAL)
    venue.accept(order(Leg.EXIT), SIGNAL)
    venue.match(SessionDraft("AAA", "BBB").bars(), FIRST)
    assert [name for name, *_ in fills(said(venue))] == ["exit", "entry"]


def test_what_is_open_after_the_last_bar_is_closed_at_the_last_price() -> None:
    """NO_MARKET: resting exits and stops fill at the last close; nothing of a signal is closed twice."""
    for lag in (1, 11):
        venue = MatchingEngine(attrs.evolve(FREE, lag=lag), session(), ("AAA", "BBB"))
        bars = SessionDraft("AAA", "BBB").bar(383, 99.0).gap(384, 390).bars()
        venue.accept(order(Leg.EXIT), 384)
        venue.accept(order(Leg.STOP, stop="90"), 384)
        venue.accept(order(Leg.STOP, "other", stop="90", symbol="BBB"), 384)
        venue.accept(order(Leg.ENTRY, limit="50"), 388)
        venue.close(partial(last_close_ticks, bars))
        events = venue.events()
        done = [(event.client_order_id, event.words) for event in events if event.fill]
        assert done == [("exit", "NO_MARKET"), ("other", "NO_MARKET")]
        assert [event.fill.price for event in events if event.fill] == [Decimal("99.0000"), Decimal("100.0000")]
        assert {event.fill.time for event in events if event.fill} == {session().close}
        assert {event.client_order_id for event in events if event.kind == "expired"} == {"stop", "entry"}
        assert venue.idle


def test_the_same_client_order_id_is_one_order_for_ever() -> None:
    """An order sent again, resting or done, changes nothing: it cannot buy twice."""
    venue = MatchingEngine(FREE, session(), ("AAA",))
    for minute in (SIGNAL, SIGNAL, FIRST):
        venue.accept(order(limit="100"), minute)
        venue.match(SessionDraft().bars(), minute + 1)
    assert kinds(said(venue)) == ["acknowledged entry", "fill entry"]


def test_a_symbol_that_is_not_traded_is_rejected_with_its_protection() -> None:
    """Every part of a refused bracket ends."""
    venue = MatchingEngine(FREE, session(), ("BBB",))
    venue.accept(bracket(), SIGNAL)
    events = venue.events()
    assert [(event.kind, event.client_order_id) for event in events] == [("rejected", "entry"), ("rejected", "stop")]
    assert events[0].words == "AAA is not traded here"
    assert venue.idle


def test_cancel_and_replace_say_what_they_found() -> None:
    """A cancel ends an entry and its waiting protection; what no longer rests or has triggered refuses."""
    venue = MatchingEngine(attrs.evolve(FREE, share_cap=(1, 10)), session(), ("AAA",))
    venue.accept(bracket(limit="50"), SIGNAL)
    venue.cancel("entry")
    venue.cancel("entry")
    venue.replace("entry", Decimal(1))
    venue.accept(order(Leg.STOP, "second", stop="98"), SIGNAL)
    venue.replace("second", Decimal("99.50"))
    venue.match(SessionDraft().bar(FIRST, 99.4, volume=100).bars(), FIRST)
    venue.replace("second", Decimal("99.90"))
    assert kinds(said(venue)) == [
        "acknowledged entry",
        "cancelled entry",
        "cancelled stop",
        "cancel_refused entry",
        "cancel_refused entry",
        "acknowledged second",
        "replaced second",
        "fill second",
        "cancel_refused second",
    ]


def test_every_event_has_an_id_of_its_own() -> None:
    """Ids count up within the session, so that each event is booked once."""
    venue = MatchingEngine(FREE, session(), ("AAA",))
    venue.accept(bracket(), SIGNAL)
    venue.cancel("nothing")
    venue.match(SessionDraft().bars(), FIRST)
    ids = [event.event_id for event in venue.events()]
    assert ids == [f"2026-01-05-{count}" for count in range(1, len(ids) + 1)]
    assert venue.events() == []


@pytest.mark.parametrize(
    ("fee_per_share", "bps", "shares", "buy", "fee"),
    [
        ("0", "0.278", 100, True, "0.00"),
        ("0", "0.278", 100, False, "0.28"),  # 10,000 USD x 0.278 bps = 0.278
        ("0", "0.278", 1, False, "0.01"),  # 0.00278
        ("0", "1", 100, False, "1.00"),  # exact stays
        ("0.005", "0", 100, True, "0.50"),
        ("0.005", "0", 101, True, "0.51"),  # 0.505
        ("0.005", "0.278", 100, False, "0.78"),
        ("0", "0", 100, False, "0.00"),
    ],
)
def test_fees_are_rounded_up_to_the_cent(fee_per_share: str, bps: str, shares: int, buy: bool, fee: str) -> None:
    """Shares pay FEE_PER_SHARE both ways, sales FEE_SELL_BPS of their proceeds; what is left of a cent is a cent."""
    simulation = SimulationSettings(fee_per_share=Decimal(fee_per_share), fee_sell_bps=Decimal(bps))
    assert str(FillCosts.of(simulation, "through").fee(1_000_000, shares * 1_000_000, buy=buy)) == fee


def test_market_orders_and_stops_slip_and_limits_do_not() -> None:
    """Slippage worsens market entries, exits and stops alone."""
    slip = FillCosts(slippage=Slippage(kind="randomized", mean=0.01, deviation=0.0, seed=0))
    draft = SessionDraft().bar(30, 97.0).bar(31, 103.0)
    assert fills(trade(bracket(), draft.bars(), slip)) == [
        ("entry", FIRST, "100", "100.0000"),
        ("stop", 30, "100", "96.0300"),
    ]
    draft = SessionDraft().bar(31, 103.0)
    assert fills(trade(bracket(None, target="102.00"), draft.bars(), slip)) == [
        ("entry", FIRST, "100", "101.0000"),
        ("target", 31, "100", "103.0000"),
    ]


@pytest.mark.parametrize(("equity", "gross", "left"), [(100, 0, 200), (100, 150, 50), (100, 250, 0), (-5, 0, 0)])
def test_a_simulated_account_holds_twice_its_equity(equity: int, gross: int, left: int) -> None:
    """What it holds is taken off, and nothing is never less than nothing."""
    assert buying_power(Decimal(equity), Decimal(gross)) == left
