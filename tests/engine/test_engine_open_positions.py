"""What is open at a stop, by the books where no session runs and no broker answers; and an unread account."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, cast

import attrs
import pytest

from tbot_core.actions.control_requests import kill_sentence, request_result, stop_sentence
from tbot_core.contracts import AccountSnapshot, Broker, BrokerEvent, PositionReport
from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.live.run import still_open
from tbot_core.engine.session.open_positions import OpenPositions, open_at_end
from tbot_core.errors import Unavailable
from tbot_core.instance import Instance
from tbot_core.journal import codec, records
from tbot_core.journal.codec import Payload, fill_facts
from tbot_core.journal.events.accounts import ForeignHolding
from tbot_core.journal.events.orders import OrderIntended, OrderReported
from tbot_core.journal.events.sessions import CarriedPosition
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.types import Account, Fill, Leg, SignalId
from tbot_core.rehearsal.lifecycle import LifecycleBroker, SimulatedInstance, simulated_instance
from tbot_core.status.live_figures import protection
from tbot_core.system import filesystem
from tbot_core.testing.trades import fill, order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession

DAY = dt.timedelta(days=1)
DEAF = 1_000_000
STUCK = OpenPositions(open=("KO",), unprotected=("KO",), stuck=("KO",))


class Dead(Exception):
    """The process is no more."""


class Away(LifecycleBroker):
    """A broker that neither lets us in nor says what it holds."""

    async def snapshot(self, _since: dt.datetime) -> AccountSnapshot:
        """Nothing can be read."""
        raise Unavailable("the line is dead")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[SimulatedInstance]:
    """The bell rings a minute after the start; the session's account is a."""
    with simulated_instance(tmp_path) as made:
        yield made


def dies(run: TradingSession, _minute: int) -> None:
    """The end of a process that holds something."""
    if run.books.positions:
        raise Dead


def test_a_stop_after_a_crash_names_what_is_held_though_the_broker_is_away(scene: SimulatedInstance) -> None:
    """The session is not ended and no broker answers: what the dead process held is open, the account unread."""
    scene.watch = dies

    async def lives() -> tuple[list[str], str]:
        with pytest.raises(Dead):
            await scene.life().run()
        scene.broker = Away(scene.world, deaf=DEAF)
        clock = scene.world.clock
        await clock.sleep_until(scene.world.session.close + dt.timedelta(minutes=5))
        control.write_request(scene.folder, ControlVerb.STOP, actor="ada", now=clock.now())
        life = scene.life(once=False)
        assert await life.run()
        assert life.session is None
        return await still_open(scene.journal, cast("Broker", scene.broker), clock.now())

    left, unconfirmed = scene.world.run(lives)
    (held,) = scene.world.way(scene.world.names[0]).exchange.matching.books.holdings()
    assert (left, unconfirmed) == ([held.symbol], "the line is dead")


def test_a_stop_after_a_crash_asks_a_broker_that_answers(scene: SimulatedInstance) -> None:
    """What it holds is named beside what the books say, and nothing is left to doubt."""
    scene.watch = dies

    async def lives() -> tuple[list[str], str]:
        with pytest.raises(Dead):
            await scene.life().run()
        return await still_open(scene.journal, cast("Broker", scene.broker), scene.world.clock.now())

    assert scene.world.run(lives) == (["AMD"], "")


@pytest.fixture
def books(scene: SimulatedInstance, tmp_path: Path) -> Iterator[SimulatedInstance]:
    """The same household with a journal that is written by hand: it says no more than it has to."""
    made = attrs.evolve(scene, journal=open_journal(tmp_path / "books.sqlite"))
    yield made
    made.journal.close()


def say(books: SimulatedInstance, *said: tuple[str, Payload]) -> None:
    """Let the journal say this of the day before."""
    at = books.world.session.close - DAY
    books.journal.append([NewEvent(kind=kind, payload=payload, time=at) for kind, payload in said])


def yesterday(books: SimulatedInstance, account: str, carried: Payload | None = None) -> Payload:
    """How the session of the day before was opened."""
    told = books.world.session
    begins, ends = (moment.isoformat() for moment in (told.open - DAY, told.close - DAY))
    said = {"date": str(told.date - DAY), "open": begins, "close": ends, "minutes": told.minutes, "symbols": 2}
    held = {} if carried is None else {"carried": [carried]}
    return said | {"equity": "100000", "primary": "w", "account": account} | held


def stuck(books: SimulatedInstance) -> Payload:
    """Seven shares that could not be closed."""
    day = books.world.session.date - DAY
    bought = Fill(
        execution_id="e1",
        client_order_id="tbko",
        symbol="KO",
        buy=True,
        quantity=Decimal(7),
        price=Decimal(60),
        fees=Decimal(0),
        time=books.world.session.open - DAY,
    )
    signal = SignalId(session=day, strategy="open", symbol="KO", minute=3, rule="up")
    told = {"side": "long", "words": "it is halted", "attempts": {"exit": 2}}
    return codec.write(CarriedPosition(signal=signal, **fill_facts(bought))) | told


def closed(books: SimulatedInstance, account: str) -> tuple[str, Payload]:
    """The end of the day before."""
    day = str(books.world.session.date - DAY)
    return records.SESSION_CLOSED, {"date": day, "equity": "100000", "open": ["KO"], "account": account}


def test_what_a_session_before_could_not_close_is_open(books: SimulatedInstance) -> None:
    """Also behind the start of a new run, whose first session has not been opened."""
    say(books, (records.SESSION_OPENED, yesterday(books, "a")), (records.STUCK, stuck(books)), closed(books, "a"))
    assert open_at_end(books.journal) == STUCK
    say(books, (records.RUN_STARTED, {"equity": "100000"}))
    assert open_at_end(books.journal) == STUCK


def test_what_is_left_at_another_account_stays_open_until_somebody_says_that_it_is_gone(
    books: SimulatedInstance,
) -> None:
    """A session that does not trade that account says nothing of it."""
    say(books, (records.SESSION_OPENED, yesterday(books, "b")), (records.STUCK, stuck(books)), closed(books, "b"))
    say(books, (records.SESSION_OPENED, yesterday(books, "a")))
    assert open_at_end(books.journal) == STUCK
    say(books, (records.RELEASED, {"of": "w", "account": "b", "actor": "ada"}))
    assert open_at_end(books.journal) == OpenPositions()


def test_what_was_carried_into_a_session_is_open_as_long_as_that_holds_it(books: SimulatedInstance) -> None:
    """It is STUCK still, and counted once."""
    say(books, (records.SESSION_OPENED, yesterday(books, "a")), (records.STUCK, stuck(books)), closed(books, "a"))
    say(books, (records.SESSION_OPENED, yesterday(books, "a", stuck(books))))
    assert open_at_end(books.journal) == STUCK
    sold = codec.write(
        CarriedPosition(
            signal=records.signal_of(stuck(books)["signal"]),
            **fill_facts(
                Fill(
                    execution_id="e2",
                    client_order_id="",
                    symbol="KO",
                    buy=False,
                    quantity=Decimal(7),
                    price=Decimal(60),
                    fees=Decimal(0),
                    time=books.world.session.open,
                )
            ),
        )
    )
    say(books, (records.ADJUSTMENT, sold))
    assert open_at_end(books.journal) == OpenPositions()


Said = tuple[str, Payload, str | None]


def entering(*words: str, symbol: str = "KO", at: str = "", bought: str = "") -> list[Said]:
    """An entry of seven shares, and what became of it at a broker; "" is the primary one.

    `bought`: another symbol that it is filled for.
    """
    of = order(Leg.ENTRY, f"{symbol}-entry", symbol=symbol, quantity="7", limit="60")
    cid, broker = of.client_order_id, {"broker": at} if at else {}
    told: list[Said] = [(records.INTENDED, codec.write(OrderIntended.of(of)) | broker, cid)]
    for word in words:
        done = attrs.evolve(fill(of, "60", "7"), symbol=bought or symbol) if word == "fill" else None
        event = BrokerEvent(kind=word, event_id=word, client_order_id=cid, fill=done)
        told.append((word, codec.write(OrderReported.of(event)) | broker, cid))
    return told


def hear(books: SimulatedInstance, *said: Said) -> None:
    """Let the journal say this of orders of the day before."""
    at = books.world.session.close - DAY
    books.journal.append([NewEvent(kind=kind, payload=payload, time=at, cid=cid) for kind, payload, cid in said])


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (entering(records.SENDING), ("KO",)),
        (entering(records.SENDING, "acknowledged"), ("KO",)),
        (entering(records.SENDING, records.NO_ANSWER), ("KO",)),
        (entering(records.SENDING, "fill", bought="PEP"), ("PEP",)),
        (entering(), ()),
        (entering(records.DROPPED), ()),
        (entering(records.SENDING, "acknowledged", "cancelled"), ()),
        (entering(records.SENDING, records.NO_ANSWER, records.LOST), ()),
    ],
    ids=["in flight", "works", "in doubt", "beyond every position", "never left", "dropped", "ended", "lost"],
)
def test_what_works_or_is_held_beyond_every_position_is_open(
    books: SimulatedInstance, tmp_path: Path, said: list[Said], left: tuple[str, ...]
) -> None:
    """It may fill when no bot is there: the run's outcome and `tbot stop` name it until its end is known."""
    instance = Instance.at(tmp_path)
    filesystem.make_folder(instance.data)
    written = attrs.evolve(books, journal=open_journal(instance.journal))
    say(written, (records.SESSION_OPENED, yesterday(books, "a")))
    hear(written, *said)
    assert open_at_end(written.journal) == OpenPositions(open=left, unprotected=left)
    written.journal.close()
    assert request_result(instance, ControlVerb.STOP_KEEP, "stop-x.json", None).open == left


def protecting(*words: str) -> list[Said]:
    """A stop of the seven shares, and what became of it."""
    stop = order(Leg.STOP, "KO-stop", symbol="KO", quantity="7", stop="50")
    told: list[Said] = [(records.INTENDED, codec.write(OrderIntended.of(stop)), "KO-stop")]
    for word in words:
        event = BrokerEvent(kind=word, event_id=f"stop {word}", client_order_id="KO-stop")
        told.append((word, codec.write(OrderReported.of(event)), "KO-stop"))
    return told


RESTS = (records.SENDING, "acknowledged")
HELD = OpenPositions(open=("KO",))
BARE = attrs.evolve(HELD, unprotected=("KO",))


@pytest.mark.parametrize(
    ("words", "left", "shown"),
    [
        ((), BARE, "none"),
        (RESTS, HELD, "resting"),
        ((*RESTS, records.CANCEL_REQUESTED), attrs.evolve(BARE, cancelling=("KO",)), "cancelling"),
        ((*RESTS, records.CANCEL_REQUESTED, "cancel_refused"), HELD, "resting"),
        ((*RESTS, records.CANCEL_REQUESTED, "cancelled"), BARE, "none"),
    ],
    ids=["intended", "rests", "being cancelled", "refused", "cancelled"],
)
def test_the_end_of_a_run_and_the_status_tell_the_same_of_a_stop(
    books: SimulatedInstance, words: tuple[str, ...], left: OpenPositions, shown: str
) -> None:
    """Of a cancel that the broker has not confirmed both say so: neither that the stop rests nor that it is gone."""
    say(books, (records.SESSION_OPENED, yesterday(books, "a")))
    hear(books, *entering(records.SENDING, "fill"), *protecting(*words))
    assert open_at_end(books.journal) == left
    book = fold_events(books.journal.events())
    assert protection(book, book.portfolio.in_symbol("KO")[0]) == shown


def test_what_is_said_to_be_gone_from_one_account_is_still_held_at_the_others(books: SimulatedInstance) -> None:
    """A person looked at the account of beta alone; what the first broker holds is open."""
    opened = yesterday(books, "a") | {"accounts": {"beta": {"account": "s"}}}
    say(books, (records.SESSION_OPENED, opened))
    hear(books, *entering(records.SENDING, "fill"), *entering(records.SENDING, "fill", symbol="PEP", at="beta"))
    assert open_at_end(books.journal) == OpenPositions(open=("KO", "PEP"), unprotected=("KO", "PEP"))
    say(books, (records.RELEASED, {"of": "beta", "account": "s", "actor": "ada"}))
    assert open_at_end(books.journal) == OpenPositions(open=("KO",), unprotected=("KO",))


class Holds(LifecycleBroker):
    """A broker that says of the session's account that it holds ten KO and three PEP."""

    async def snapshot(self, _since: dt.datetime) -> AccountSnapshot:
        """What a person bought there by hand, or an order without a report."""
        account = Account(account_id="a", equity=Decimal(1), cash=Decimal(1))
        held = tuple(
            PositionReport(symbol=symbol, quantity=Decimal(shares)) for symbol, shares in (("KO", 10), ("PEP", 3))
        )
        return AccountSnapshot(account=account, holdings=held)


@pytest.mark.parametrize(("account", "left"), [("a", ["KO"]), ("b", ["KO", "PEP"])])
def test_what_is_known_not_to_be_tbots_is_left_open_by_no_stop(
    books: SimulatedInstance, account: str, left: list[str]
) -> None:
    """Of another quantity than the known one, it has no known owner; nor of what another account was read to hold."""
    say(books, (records.SESSION_OPENED, yesterday(books, account)))
    say(
        books,
        *(
            (records.FOREIGN_HOLDING, codec.write(ForeignHolding(symbol=one, quantity=Decimal(3), price=None)))
            for one in ("KO", "PEP")
        ),
    )
    say(books, closed(books, account))
    broker = cast("Broker", Holds(books.world))
    assert books.world.run(lambda: still_open(books.journal, broker, books.world.clock.now())) == (left, "")


def test_a_journal_without_a_session_leaves_nothing_open(books: SimulatedInstance) -> None:
    """Nothing was ever traded."""
    assert open_at_end(books.journal) == OpenPositions()


def test_tbot_stop_names_what_sessions_before_have_left(books: SimulatedInstance, tmp_path: Path) -> None:
    """It is not managed any more, whether or not a session is under way; a kill speaks of the session alone."""
    instance = Instance.at(tmp_path)
    filesystem.make_folder(instance.data)
    written = attrs.evolve(books, journal=open_journal(instance.journal))
    say(written, (records.SESSION_OPENED, yesterday(books, "a")), (records.STUCK, stuck(books)), closed(books, "a"))
    written.journal.close()
    assert request_result(instance, ControlVerb.STOP, "stop-x.json", None).open == ("KO",)
    assert request_result(instance, ControlVerb.KILL, "kill-x.json", None).open == ()


def test_tbot_stop_says_that_nobody_could_look(books: SimulatedInstance, tmp_path: Path) -> None:
    """As the run wrote it down behind the request."""
    instance = Instance.at(tmp_path)
    filesystem.make_folder(instance.data)
    written = attrs.evolve(books, journal=open_journal(instance.journal))
    asked = {"verb": "stop", "name": "stop-x.json", "actor": "ada", "words": ""}
    say(written, (records.REQUEST, asked), (records.STOPPED, {"open": [], "unconfirmed": "no line"}))
    written.journal.close()
    found = request_result(instance, ControlVerb.STOP, "stop-x.json", 7)
    assert (found.taken, found.ended, found.unconfirmed) == (True, True, "no line")


def test_tbot_stop_names_what_the_run_found_open_though_the_journal_has_no_order_of_it(
    books: SimulatedInstance, tmp_path: Path
) -> None:
    """The broker showed it as the run ended: the books alone would say that nothing is open."""
    instance = Instance.at(tmp_path)
    filesystem.make_folder(instance.data)
    written = attrs.evolve(books, journal=open_journal(instance.journal))
    asked = {"verb": "stop", "name": "stop-x.json", "actor": "ada", "words": ""}
    say(written, (records.SESSION_OPENED, yesterday(books, "a")))
    hear(written, *entering(records.SENDING, "acknowledged"))
    say(written, (records.REQUEST, asked), (records.STOPPED, {"open": ["PEP"], "unconfirmed": ""}))
    written.journal.close()
    found = request_result(instance, ControlVerb.STOP, "stop-x.json", 7)
    said = "Stopped and left open: KO, PEP. Without a stop order: KO, PEP."
    assert (found.open, stop_sentence(found)) == (("KO", "PEP"), said)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "Positions are kept with their stops: KO."),
        ((records.CANCEL_REQUESTED,), "Positions are kept: KO. The cancel of the stop order was requested"),
        ((records.CANCEL_REQUESTED, "cancelled"), "Positions are kept: KO. Without a stop order: KO."),
    ],
)
def test_tbot_kill_promises_no_stop_whose_cancel_was_requested(
    books: SimulatedInstance, tmp_path: Path, more: tuple[str, ...], words: str
) -> None:
    """As `tbot stop` and the status do."""
    instance = Instance.at(tmp_path)
    filesystem.make_folder(instance.data)
    written = attrs.evolve(books, journal=open_journal(instance.journal))
    asked = {"verb": "kill", "name": "kill-x.json", "actor": "ada", "words": ""}
    say(written, (records.SESSION_OPENED, yesterday(books, "a")))
    hear(written, *entering(records.SENDING, "fill"), *protecting(*RESTS, *more))
    say(written, (records.REQUEST, asked))
    written.journal.close()
    assert words in kill_sentence(request_result(instance, ControlVerb.KILL, "kill-x.json", 7))
