"""What is held at a broker that no session trades any more: it is said, it bars entries, and it is never forgotten."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.live.abandoned_positions import abandoned_holdings
from tbot_core.journal import codec, records
from tbot_core.journal.codec import fill_facts
from tbot_core.journal.events.accounts import Adjustment
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.journal.events.sessions import CarriedPosition
from tbot_core.journal.projections import carryover, failover
from tbot_core.journal.store import NewEvent
from tbot_core.model.types import Fill, Leg, SignalId
from tbot_core.rehearsal.lifecycle import SimulatedInstance, simulated_instance
from tbot_core.testing.trades import order
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = dt.timedelta(days=1)
NEWEST = 10**9
"""The order of a request that was made after all that the journal has."""
ACCOUNTS = {"w": {"account": "a", "equity": "100000"}, "beta": {"account": "B-1", "equity": "50000"}}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[SimulatedInstance]:
    """The bell rings a minute after the start; the session's account is a."""
    with simulated_instance(tmp_path) as made:
        yield made


def opening(scene: SimulatedInstance, **more: Any) -> dict[str, Any]:
    """How the session of the day before was opened: at w, with beta standing by."""
    told = scene.world.session
    begins, ends = (moment.isoformat() for moment in (told.open - DAY, told.close - DAY))
    said = {"date": str(told.date - DAY), "open": begins, "close": ends, "minutes": told.minutes, "symbols": 2}
    return said | {"equity": "100000", "primary": "w", "account": "a", "accounts": ACCOUNTS} | more


def signal(scene: SimulatedInstance) -> SignalId:
    """A signal of the day before."""
    day = scene.world.session.date - DAY
    return SignalId(session=day, strategy="open", symbol="KO", minute=3, rule="up")


def entered(scene: SimulatedInstance, cid: str = "tbko") -> Fill:
    """Seven shares that were bought for it."""
    return Fill(
        execution_id="e1",
        client_order_id=cid,
        symbol="KO",
        buy=True,
        quantity=Decimal(7),
        price=Decimal(60),
        fees=Decimal(0),
        time=scene.world.session.open - DAY,
    )


def say(scene: SimulatedInstance, *said: tuple[str, dict[str, Any], str | None]) -> None:
    """Let the journal say this of the day before."""
    at = scene.world.session.close - DAY
    scene.journal.append([NewEvent(kind=kind, payload=payload, time=at, cid=cid) for kind, payload, cid in said])


def closed(scene: SimulatedInstance, account: str = "a") -> tuple[str, dict[str, Any], None]:
    """The end of the day before."""
    payload = {"date": str(scene.world.session.date - DAY), "equity": "100000", "open": ["KO"], "account": account}
    return records.SESSION_CLOSED, payload, None


def stuck(scene: SimulatedInstance) -> tuple[str, dict[str, Any], None]:
    """Seven shares at beta could not be closed, though two exits were sent."""
    carried = codec.write(CarriedPosition(signal=signal(scene), **fill_facts(entered(scene))))
    payload = carried | {"side": "long", "words": "it is halted", "attempts": {"exit": 2}, "broker": "beta"}
    return records.STUCK, payload, None


def bought(scene: SimulatedInstance) -> list[tuple[str, dict[str, Any], str | None]]:
    """The same shares were bought at beta in a session that was not ended."""
    bid = attrs.evolve(order(Leg.ENTRY, "tbko", symbol="KO", limit="60", quantity="7"), signal=signal(scene))
    filled = {"words": "filled"} | codec.write(Adjustment.of(entered(scene)))
    return [
        (records.INTENDED, codec.write(OrderIntended.of(bid)) | {"broker": "beta"}, "tbko"),
        (records.SENDING, {"broker": "beta"}, "tbko"),
        ("fill", filled | {"broker": "beta"}, "tbko"),
    ]


def causes(scene: SimulatedInstance) -> list[bool]:
    """Whether something was left behind, each time that this changed."""
    told = (one.payload for one in scene.events(records.STATE))
    return [one["there"] for one in told if one["cause"] == StateCause.LEFT_BEHIND.name]


def waiting(scene: SimulatedInstance) -> list[tuple[str, str, str, int]]:
    """What no session has closed: symbol, broker, account, exits so far."""
    found = carryover.carried_positions(scene.journal.events())
    return [(one.fill.symbol, one.broker, one.account, one.attempts.get(Leg.EXIT, 0)) for one in found]


@pytest.mark.slow
def test_a_position_left_at_a_broker_that_is_not_named_any_more_is_said_and_nothing_is_entered(
    scene: SimulatedInstance,
) -> None:
    """NOT READY names shares, broker, account and what helps; after the session it is as well known as before."""
    say(scene, (records.SESSION_OPENED, opening(scene), None), stuck(scene), closed(scene))
    scene.world.run(scene.life().run)
    reasons = [reason for event in scene.events(records.NOT_READY) for reason in event.payload["reasons"]]
    assert any("7 KO at beta, account B-1; name it in BROKER_NAME or FAILOVER_BROKERS" in one for one in reasons)
    assert scene.events(records.READY) == []
    assert causes(scene) == [True]
    assert scene.events(records.INTENDED) == []
    assert len(scene.events(records.SESSION_CLOSED)) == 2
    assert waiting(scene) == [("KO", "beta", "B-1", 2)]


def test_a_session_that_nobody_ended_leaves_what_another_broker_holds_to_be_found(scene: SimulatedInstance) -> None:
    """It is ended under its own date at the broker that is still named; what the other one holds is STUCK there."""
    say(scene, (records.SESSION_OPENED, opening(scene), None), *bought(scene))
    scene.world.run(scene.life().run)
    (told,) = scene.events(records.STUCK)
    assert (told.payload["symbol"], told.payload["quantity"], told.payload["broker"]) == ("KO", "7", "beta")
    assert [one.payload["open"] for one in scene.events(records.SESSION_CLOSED)] == [["KO"], []]
    assert causes(scene) == [True]
    assert waiting(scene) == [("KO", "beta", "B-1", 0)]


def test_a_session_of_another_account_is_ended_from_what_is_written_down_of_it(scene: SimulatedInstance) -> None:
    """Its orders are not looked up where they never were; what it holds waits for its account."""
    other = opening(scene, primary="alpha", account="A-9", accounts={})
    mine = [(kind, payload | {"broker": ""}, cid) for kind, payload, cid in bought(scene)]
    say(scene, (records.SESSION_OPENED, other, None), *mine)
    scene.world.run(scene.life().run)
    ends = [(one.payload["account"], one.payload["open"]) for one in scene.events(records.SESSION_CLOSED)]
    assert ends == [("A-9", ["KO"]), ("a", [])]
    assert scene.events(records.ORDER_NOT_FOUND) == []
    assert waiting(scene) == [("KO", "alpha", "A-9", 0)]


def test_what_a_session_of_another_account_has_carried_in_is_left_there(scene: SimulatedInstance) -> None:
    """Also where a run began before that session did: it begins with nothing, and the session with what was left."""
    carried = [codec.write(CarriedPosition(signal=signal(scene), **fill_facts(entered(scene))))]
    other = opening(scene, primary="alpha", account="A-9", accounts={}, carried=carried)
    say(scene, (records.RUN_STARTED, {"equity": "100000"}, None), (records.SESSION_OPENED, other, None))
    (told,) = abandoned_holdings(list(scene.journal.events()), {"a"}, ())
    assert (told.symbol, told.quantity, told.at, told.account) == ("KO", Decimal(7), "alpha", "A-9")


def test_a_person_lets_go_of_what_is_held_nowhere_any_more(scene: SimulatedInstance) -> None:
    """Only nothing can be said of it; then the session is ready, and the position is on no list."""
    say(scene, (records.SESSION_OPENED, opening(scene), None), stuck(scene), closed(scene))
    world = scene.world
    for after, amount in ((20.0, "500"), (25.0, "much"), (30.0, "0")):
        asked = {"actor": "ada", "now": world.start, "order": NEWEST, "arguments": {"amount": amount}}
        world.loop.call_at(
            after,
            lambda asked=asked: control.write_request(scene.folder, ControlVerb.FAILOVER_CONFIRM, **asked) and None,  # type: ignore[misc]
        )
    world.run(scene.life().run)
    refused = [one.payload["words"] for one in scene.events(records.REQUEST_REFUSED)]
    assert len(refused) == 2
    assert all("cannot be valued here: 7 KO at beta" in one for one in refused)
    (told,) = scene.events(records.RELEASED)
    assert failover.failover_event_text(told) == "ada confirms that no position is open at beta, account B-1"
    assert causes(scene) == [True, False]
    assert len(scene.events(records.READY)) == 1
    assert waiting(scene) == []


def test_a_person_lets_go_of_what_a_session_held_that_nobody_ended(scene: SimulatedInstance) -> None:
    """Said before that session is ended, it is heard by it: nothing is STUCK, and the next one is ready."""
    say(scene, (records.SESSION_OPENED, opening(scene), None), *bought(scene))
    now = scene.world.start
    asked = {"amount": "0"}
    control.write_request(
        scene.folder, ControlVerb.FAILOVER_CONFIRM, actor="ada", now=now, order=NEWEST, arguments=asked
    )
    scene.world.run(scene.life().run)
    assert [len(scene.events(kind)) for kind in (records.RELEASED, records.STUCK, records.REQUEST_REFUSED)] == [1, 0, 0]
    assert causes(scene) == []
    assert waiting(scene) == []


@pytest.mark.first(1)
@pytest.mark.parametrize("ended", [True, False], ids=["by a session before", "by this session"])
def test_a_word_of_before_a_position_was_left_lets_nothing_go(scene: SimulatedInstance, *, ended: bool) -> None:
    """It lay in control/ since before the position was bought, whatever its clock said: it was not read since."""
    after = [stuck(scene), closed(scene)] if ended else bought(scene)
    today = scene.world.session
    opened = opening(scene) if ended else opening(scene, date=str(today.date), close=today.close.isoformat())
    say(scene, (records.SESSION_OPENED, opened, None), *after)
    ahead = scene.world.start + 5 * DAY
    control.write_request(scene.folder, ControlVerb.FAILOVER_CONFIRM, actor="ada", now=ahead, arguments={"amount": "0"})
    scene.world.run(scene.life().run)
    (refused,) = scene.events(records.REQUEST_REFUSED)
    assert (
        "before that position was left there: check the account, and confirm again. 7 KO at beta"
        in refused.payload["words"]
    )
    assert scene.events(records.RELEASED) == []
    assert waiting(scene)
    assert causes(scene) == [True]


def test_a_position_is_taken_over_wherever_its_account_is_traded_again(scene: SimulatedInstance) -> None:
    """What beta held is managed when beta is the first broker: the account counts, not the part that it plays."""
    accounts = {"alpha": {"account": "A-9", "equity": "1"}, "w": {"account": "a", "equity": "2"}}
    before = opening(scene, primary="alpha", account="A-9", accounts=accounts)
    kind, payload, _ = stuck(scene)
    say(scene, (records.SESSION_OPENED, before, None), (kind, payload | {"broker": "w"}, None), closed(scene, "A-9"))
    scene.world.run(scene.life().run)
    opened = scene.events(records.SESSION_OPENED)[-1].payload
    assert [one["symbol"] for one in opened.get("carried", ())] == []  # the first reading: the account has no KO
    assert [one.payload["symbol"] for one in scene.events(records.ADJUSTMENT)] == ["KO"]
    assert causes(scene) == []
    assert waiting(scene) == []


def test_what_a_session_has_carried_counts_among_what_it_abandons(scene: SimulatedInstance) -> None:
    """Its orders go on with the numbers they had; a session that says no account is left as it is."""
    carried = codec.write(CarriedPosition(signal=signal(scene), **fill_facts(entered(scene)))) | {"broker": "beta"}
    opened = opening(scene, carried=[carried])
    out = attrs.evolve(order(Leg.EXIT, "tbout", symbol="KO", quantity="7"), signal=signal(scene))
    say(scene, (records.SESSION_OPENED, opening(scene), None), stuck(scene), closed(scene))
    before = carryover.carried_positions(scene.journal.events())
    say(
        scene,
        (records.SESSION_OPENED, opened, None),
        (records.INTENDED, codec.write(OrderIntended.of(out)) | {"broker": "beta"}, "tbout"),
    )
    since = carryover.events_since_close(list(scene.journal.events()))
    (told,) = abandoned_holdings(since, {"a"}, before)
    assert (told.quantity, dict(told.attempts), told.at) == (Decimal(7), {"exit": 3}, "beta")
    assert abandoned_holdings(since, {"a", "B-1"}, before) == []
    assert abandoned_holdings((), {"a"}, before) == []
