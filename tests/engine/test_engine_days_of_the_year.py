"""Days that are not like others: clocks change, a year ends, a holiday, a half day, a night with a restart in it."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, cast

import attrs
import pytest

from tbot_core.contracts import AccountSnapshot, BrokerCapabilities
from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.live.daily_cycle import DailyCycle
from tbot_core.engine.live.session_inputs import DailyServices
from tbot_core.engine.session.config import LiveConfig
from tbot_core.engine.session.feed_session import universe_of
from tbot_core.engine.session.session import SessionContext
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.journal import records
from tbot_core.journal.store import Journal, open_journal
from tbot_core.model.calendar import EarlyClose, ExchangeCalendar, Session
from tbot_core.model.day_facts import DayFacts
from tbot_core.model.types import Account
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop, run_virtual
from tbot_core.testing.trades import rules
from tbot_core.trading.orders import ClientOrderIds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from tbot_core.contracts import Broker, FeedSession, LiveSession
    from tbot_core.journal.store import Event
    from tbot_core.model.bars import MinuteSlice
    from tbot_core.trading.proposals import ActiveStrategy
    from tbot_core.trading.universe import Universe

ACCOUNT = Account(account_id="A", cash=Decimal(100_000), equity=Decimal(100_000))
UNKNOWN = DayFacts.unknown(1)  # of one symbol
MINUTES = 10
"""So long the sessions of these tests last, where their length is not what matters."""


class Flat:
    """A broker at which nothing happens; `asked` is when it was asked for its hours."""

    capabilities = BrokerCapabilities(hours=True)

    def __init__(self, clock: LoopClock, calendar: ExchangeCalendar) -> None:
        self._clock = clock
        self._calendar = calendar
        self.asked: list[dt.datetime] = []

    async def connect(self) -> Account:
        """Log in."""
        return ACCOUNT

    async def account(self) -> Account:
        """The money."""
        return ACCOUNT

    async def poll(self) -> tuple[()]:
        """No news."""
        return ()

    async def snapshot(self, _since: dt.datetime) -> AccountSnapshot:
        """Nothing is held."""
        return AccountSnapshot(account=ACCOUNT, barrier="1")

    async def hours(self, day: dt.date) -> Session | None:
        """As the exchange trades."""
        self.asked.append(self._clock.now())
        return self._calendar.session(day)


@attrs.frozen
class SilentSource:
    """A feed of one symbol that says nothing."""

    session: Session
    symbols = ("AAA",)
    day = UNKNOWN

    async def minutes(self) -> AsyncIterator[MinuteSlice]:
        """No minutes."""
        nothing: tuple[MinuteSlice, ...] = ()
        for minute in nothing:
            yield minute


@attrs.define(eq=False)
class Place:
    """Where one life after the other is lived; the loop's time goes on from one to the next."""

    journal: Journal
    calendar: ExchangeCalendar
    clock: LoopClock
    loop: VirtualLoop
    broker: Flat
    home: Path
    slow_s: float = 0.0
    prepared: list[dt.datetime] = attrs.field(factory=list)
    _context: SessionContext = attrs.field(init=False)

    def life(self) -> DailyCycle:
        """A process that begins to live."""
        broker = cast("Broker", self.broker)
        self._context = SessionContext(
            rules=rules(venue=self.broker.capabilities),
            venue=BrokerAccount(broker=broker, name="flat", account_id="A"),
            journal=self.journal,
            clock=self.clock,
            naming=ClientOrderIds(install_id="i", identity="", account_id="A", length=64),
            wait=self.clock.sleep_until,
            on_events=lambda _entries: None,
            on_minute=lambda _run, _minute: None,
        )
        floor = LiveConfig(folder=self.home / "control", poll_s=300.0, ttl_s=20.0, watch_s=30.0)
        return DailyCycle(self._context.recorder, broker, floor, self, DailyServices(calendar=self.calendar))

    async def prepare(self, _session: Session) -> None:
        """The past is fetched."""
        self.prepared.append(self.clock.now())
        await self.clock.sleep(self.slow_s)

    async def bars(self, session: Session) -> SilentSource:
        """A feed that says nothing."""
        return SilentSource(session)

    async def universe(self, source: FeedSession | LiveSession, *_given: object) -> Universe:
        """The one symbol."""
        return universe_of(source)

    def entrants(self, _session: Session) -> tuple[ActiveStrategy, ...]:
        """No strategy trades."""
        return ()

    async def context(self, _account: Account, _opened: Event | None) -> SessionContext:
        """The account, without another broker."""
        return self._context

    def arming_terms(self, _account: Account) -> None:
        """It is not armed."""

    def is_drilled(self, _past: Sequence[Event]) -> bool:
        """Whether another broker may take over; there is none."""
        return False

    async def compare(self, session: Session) -> None:
        """Nothing is compared."""

    def live(self, *ends: str) -> None:
        """Live until each of these moments, in UTC, one life after the other; how it ends is not recorded."""

        async def lives() -> None:
            for end in ends:
                life = asyncio.ensure_future(self.life().run())
                await self.clock.sleep_until(dt.datetime.fromisoformat(end))
                assert not life.done(), life.exception()
                life.cancel()
                await asyncio.gather(life, return_exceptions=True)

        run_virtual(lives, self.loop)

    def events(self, kind: str) -> list[Event]:
        """What the journal holds of a kind."""
        return list(self.journal.events(kind=kind))

    def told(self, kind: str) -> list[str]:
        """When events of a kind were written, UTC, to the minute."""
        return [minutes(event.applied) for event in self.events(kind)]

    @property
    def bells(self) -> list[tuple[str, str]]:
        """The opened sessions' hours, UTC."""
        return [
            (minutes(event.payload["open"]), minutes(event.payload["close"])) for event in self.events("session_opened")
        ]


def minutes(moment: dt.datetime | str) -> str:
    """The moment to its minute."""
    return str(moment)[:16].replace("T", " ")


@contextmanager
def placed(home: Path, now: str, *short: str) -> Iterator[Place]:
    """A place at that moment, UTC; the days in `short` close after ten minutes."""
    early = {dt.date.fromisoformat(day): EarlyClose(close=dt.time(9, 30 + MINUTES)) for day in short}
    loop, calendar = VirtualLoop(), ExchangeCalendar(overrides=early)
    clock = LoopClock(loop, dt.datetime.fromisoformat(now))
    with closing(open_journal(home / "tbot.sqlite")) as journal:
        yield Place(journal, calendar, clock, loop, Flat(clock, calendar), home)


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("now", "days", "end", "asked", "opened"),
    [
        pytest.param(
            "2027-03-12 12:30+00:00",
            ("2027-03-12", "2027-03-15"),
            "2027-03-15 15:00+00:00",
            ["2027-03-12 13:00", "2027-03-15 12:00"],
            ["2027-03-12 14:30", "2027-03-15 13:30"],
            id="f71-spring",
        ),
        pytest.param(
            "2026-10-30 11:30+00:00",
            ("2026-10-30", "2026-11-02"),
            "2026-11-02 16:00+00:00",
            ["2026-10-30 12:00", "2026-11-02 13:00"],
            ["2026-10-30 13:30", "2026-11-02 14:30"],
            id="f72-autumn",
        ),
        pytest.param(
            "2028-02-28 12:30+00:00",
            ("2028-02-28", "2028-02-29", "2028-03-01"),
            "2028-03-01 16:00+00:00",
            ["2028-02-28 13:00", "2028-02-29 13:00", "2028-03-01 13:00"],
            ["2028-02-28 14:30", "2028-02-29 14:30", "2028-03-01 14:30"],
            id="f73-leap-day",
        ),
        pytest.param(
            "2026-12-31 12:30+00:00",
            ("2026-12-31", "2027-01-04"),
            "2027-01-04 16:00+00:00",
            ["2026-12-31 13:00", "2027-01-04 13:00"],
            ["2026-12-31 14:30", "2027-01-04 14:30"],
            id="f73-year-end",
        ),
    ],
)
def test_f71_f72_f73_each_day_has_its_bells_in_new_york_and_its_jobs_once(
    now: str, days: tuple[str, ...], end: str, asked: list[str], opened: list[str], tmp_path: Path
) -> None:
    """F71, F72, F73: the broker is asked at 08:00, READY is said at 09:00, the bell rings at 09:30, each once a day."""
    hour = dt.timedelta(hours=1)
    with placed(tmp_path, now, *days) as place:
        place.live(end)
        assert [minutes(moment) for moment in place.broker.asked] == asked
        assert [minutes(moment) for moment in place.prepared] == asked
        ready = [minutes(dt.datetime.fromisoformat(f"{one}+00:00") + hour) for one in asked]
        assert place.told(records.READY) == ready
        assert [bell for bell, _ in place.bells] == opened == place.told(records.SESSION_OPENED)
        assert [event.payload["date"] for event in place.events(records.SESSION_CLOSED)] == list(days)
        assert place.events(records.NOT_READY) == []


def test_a_stop_does_not_wait_for_the_history(tmp_path: Path) -> None:
    """A download may take long; requests are carried out meanwhile."""
    with placed(tmp_path, "2027-03-12 12:30+00:00") as place:
        place.slow_s = 7200.0

        async def lives() -> bool:
            life = asyncio.ensure_future(place.life().run())
            await place.clock.sleep_until(dt.datetime.fromisoformat("2027-03-12 13:10+00:00"))
            control.write_request(place.home / "control", ControlVerb.STOP, actor="me", now=place.clock.now())
            return await life

        assert run_virtual(lives, place.loop)
        assert minutes(place.clock.now()) == "2027-03-12 13:10"
        assert len(place.prepared) == 1


def test_after_nine_there_is_nothing_to_prepare(tmp_path: Path) -> None:
    """A late start asks for the session itself at once."""
    with placed(tmp_path, "2027-03-12 14:05+00:00", "2027-03-12") as place:
        place.live("2027-03-12 15:00+00:00")
        assert place.prepared == []
        assert place.told(records.READY) == ["2027-03-12 14:05"]


def test_f73_a_holiday_is_said_once_and_a_half_day_ends_at_one(tmp_path: Path) -> None:
    """F73: Thanksgiving has its sentence at 08:00, also where it is restarted; the day after closes at 13:00."""
    with placed(tmp_path, "2026-11-26 12:30+00:00") as place:
        place.live("2026-11-26 14:15+00:00", "2026-11-26 19:00+00:00", "2026-11-27 19:00+00:00")
        (holiday,) = place.events(records.HOLIDAY)
        assert holiday.payload == {"date": "2026-11-26", "name": "Thanksgiving Day", "next": "2026-11-27"}
        assert minutes(holiday.applied) == "2026-11-26 13:00"
        assert place.bells == [("2026-11-27 14:30", "2026-11-27 18:00")]
        assert place.told(records.SESSION_CLOSED) == ["2026-11-27 18:00"]
        assert place.told(records.READY) == ["2026-11-27 14:00"]


def test_f74_a_restart_around_midnight_changes_no_day(tmp_path: Path) -> None:
    """F74: lives end right before and after midnight of New York and of UTC; each session is opened and closed once."""
    days = ("2026-11-23", "2026-11-24")
    with placed(tmp_path, "2026-11-23 13:30+00:00", *days) as place:
        ends = ["2026-11-23 23:59:59", "2026-11-24 00:00:01", "2026-11-24 04:59:59", "2026-11-24 05:00:01"]
        place.live(*(f"{end}+00:00" for end in ends), "2026-11-24 16:00+00:00")
        assert [event.payload["date"] for event in place.events(records.SESSION_OPENED)] == [*days]
        assert [event.payload["date"] for event in place.events(records.SESSION_CLOSED)] == [*days]
        assert len(place.events(records.READY)) == 2
