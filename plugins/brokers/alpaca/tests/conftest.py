"""Whole days of a run at the test venue, in virtual time and over real connections of this machine."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter, defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest
from tbot_broker_alpaca import tbot_broker

from tbot_core.contracts.settings import StrategySettings
from tbot_core.engine.run_plan import RunOutcome
from tbot_core.journal import records
from tbot_core.journal.store import Event, read_journal
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import Side
from tbot_core.model.window import Window
from tbot_core.rehearsal.bot import ScriptedStrategy
from tbot_core.rehearsal.broker_rehearsal import BrokerDay, addresses, open_day
from tbot_core.rehearsal.prices import CENT, STEPS_A_MINUTE, SimulatedMarket
from tbot_core.rehearsal.world import DAY, short_day
from tbot_core.system import filesystem
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from pathlib import Path

SYMBOLS: Final = ("AAPL", "F", "KO")
SETTINGS: Final = {
    "BROKER_NAME": "ALPACA",
    "FILTERS": "none",
    "EXTENSIONS": "none",
    "TOTAL_ALLOCATION": "0.2",
    "CRITICAL_ALERT_CHANNEL": "console",
    "ROUTINE_ALERT_CHANNEL": "console",
}
LOOK_S: Final = 0.25
_STATUS: Final = """
import sys, datetime as dt, pathlib
from tbot_core.cli.commands.status import lines
from tbot_core.status.instance import status_document
now = dt.datetime.fromisoformat(sys.argv[2])
print(*lines(status_document(pathlib.Path(sys.argv[1]), now), now), sep="\\n")
"""
UNPROTECTED_S: Final = 5.0
"""So long may a position be without an order that closes it, while the venue takes orders."""


@attrs.define(eq=False)
class WatchedDay:
    """A day whose venue is looked at four times a second: how long each position had no order that closes it.

    `answers`: whether the venue takes orders now; a script says so.
    """

    day: BrokerDay
    answers: bool = True
    bare: dict[str, float] = attrs.field(factory=lambda: defaultdict(float))
    longest: dict[str, float] = attrs.field(factory=lambda: defaultdict(float))
    seen: list[str] = attrs.field(factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.day, name)

    async def look(self) -> None:
        """Look until cancelled."""
        account: Any = self.day.venue.venue.account  # type: ignore[attr-defined]
        while True:
            await self.day.clock.sleep(LOOK_S)
            for symbol in {*account.held, *self.bare}:
                held, _ = account.held.get(symbol, (Decimal(0), Decimal(0)))
                closing = (one for one in account.open_orders if one.symbol == symbol and one.buy is (held < 0))
                is_bare = abs(held) > sum(one.remaining for one in closing)
                self.bare[symbol] = self.bare[symbol] + LOOK_S * self.answers if is_bare else 0.0
                self.longest[symbol] = max(self.longest[symbol], self.bare[symbol])

    def status(self) -> str:
        """What `tbot status` shows now, in a process of its own, as a person's."""
        asked = [str(self.day.home), self.day.clock.now().isoformat()]
        text = subprocess.run(
            [sys.executable, "-c", _STATUS, *asked], capture_output=True, text=True, check=True
        ).stdout
        self.seen.append(text)
        return text


@attrs.frozen(kw_only=True, eq=False)
class TradedDay:
    """What is left of a day: how its last run ended, the journal, the venue's orders, and what it holds."""

    outcome: RunOutcome | None
    events: list[Event]
    venue: Any
    watched: WatchedDay

    def of(self, kind: str) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if event.kind == kind]

    @property
    def posts(self) -> Counter[str]:
        """How often each client order id was posted."""
        posted = [one for one in self.venue.server.requests if (one.method, one.path) == ("POST", "/v2/orders")]
        return Counter(one.document["client_order_id"] for one in posted)

    @property
    def shown(self) -> list[str]:
        """What `tbot status` showed during the day."""
        return self.watched.seen

    def assert_sound(self, *, held: Collection[str] = ()) -> None:
        """Nothing was booked twice or left bare, and venue, journal and bot agree; `held` is left at the end.

        An id is posted once, and again only where the journal has that before.
        """
        account = self.venue.venue.account
        again = Counter(event.cid for event in self.of(records.SENT_AGAIN))
        assert {cid: times - again[cid] for cid, times in self.posts.items() if times - again[cid] != 1} == {}
        assert len({one.client_order_id for one in account.orders}) == len(account.orders)
        assert {symbol: span for symbol, span in self.watched.longest.items() if span > UNPROTECTED_S} == {}
        booked: Counter[str] = Counter()
        for event in self.of("fill"):
            booked[event.cid or ""] += Decimal(event.payload["quantity"])
        assert booked == {one.client_order_id: one.filled for one in account.orders if one.filled}
        [closed] = self.of(records.SESSION_CLOSED)
        assert Decimal(closed.payload["cash"]) == account.cash
        assert set(closed.payload["open"]) == set(account.held) == set(held)
        assert self.outcome is None or set(self.outcome.open) == set(held)


def signals(*cells: tuple[int, int], side: Side = Side.LONG, trailing: bool = False) -> ActiveStrategy:
    """Signals of a side, each in a minute and of a symbol's row, with a stop, and an exit at minute 15."""
    window = Window(start=1, analysis=0, breakout=8, monitoring=6)
    exits = ExitRules(trigger="intrabar", trailing=trailing, leave=window.leave, hold=None)
    calls = tuple((minute, row, int(side)) for minute, row in cells)
    strategy = ScriptedStrategy(window=window, calls=calls, exits=exits, distance=0.02, gain=math.nan)
    frame = StrategySettings(short_type="ShortSell")
    return ActiveStrategy(name="signals", rank=0, strategy=strategy, frame=frame)


@pytest.fixture
def trade(tmp_path: Path) -> Callable[..., TradedDay]:
    """Trades a day of 30 minutes by a script; `rises`: prices rise by ten cents a minute, and stops trail."""

    def traded(
        script: Callable[[Any], Awaitable[RunOutcome | None]],
        *cells: tuple[int, int],
        minutes: int = 30,
        rises: bool = False,
        side: Side = Side.LONG,
    ) -> TradedDay:
        home, plugin = tmp_path / "home", tbot_broker()
        home.mkdir()
        calendar, session = short_day(minutes)
        market = SimulatedMarket.flat(20 * 100 * CENT, SYMBOLS, session.minutes)
        for path in market.paths.values() if rises else ():
            for minute in range(6, session.minutes):
                path.move(minute * STEPS_A_MINUTE, path.prices[-1] + 10 * CENT)

        async def watched(day: BrokerDay) -> tuple[WatchedDay, RunOutcome | None]:
            found = WatchedDay(day)
            looking = day.loop.create_task(found.look())
            try:
                return found, await script(found)
            finally:
                looking.cancel()

        with (
            filesystem.hold_lock(home / "data" / "tbot.lock"),
            open_day(plugin, home, market, calendar, DAY) as (day, run),
        ):
            texts = SETTINGS | addresses(plugin, day.venue)
            (home / ".env_bot").write_text("".join(f"{name}={text}\n" for name, text in texts.items()))
            venue: Any = day.venue
            for symbol in venue.feed_symbols:  # which do not trade
                venue.venue.market.listings.pop(symbol, None)
            day.entrants.append(signals(*cells, side=side, trailing=rises))
            found, outcome = run(watched)
        journal = read_journal(home / "data" / "tbot.sqlite")
        try:
            events = list(journal.events())
        finally:
            journal.close()
        return TradedDay(outcome=outcome, events=events, venue=venue, watched=found)

    return traded
