"""A person approves an entry on a live feed: it is judged by the quotes and the prices of that moment."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from tbot_core.contracts import Check, FeedMessage, Quote
from tbot_core.contracts.settings import StrategySettings
from tbot_core.engine import control
from tbot_core.engine.session.gauge_writer import GaugeWriter
from tbot_core.journal import records
from tbot_core.journal.gauges import read_gauges
from tbot_core.journal.store import Event, NewEvent, open_journal
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules, Signals
from tbot_core.model.window import Window
from tbot_core.rehearsal.bot import BotConfig, BotProcess, PlannedCrash, ScriptedStrategy
from tbot_core.rehearsal.prices import STEPS_A_MINUTE
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.rehearsal.world import LEAD_S, World
from tbot_core.testing.trades import rules
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tbot_core.model.day_facts import DayFacts, MarketView

PRICE = 1_000_000
SEED = 4
ASKED, LATER = 2, 5
"""The minutes whose signals call: the first is asked about, the other tells that bars are taken in."""


class Narrow:
    """A filter that lets no wide quote pass, and nothing that it was shown no quote of."""

    def screen(self, day: DayFacts, symbols: tuple[str, ...], frame: StrategySettings) -> Sequence[Check]:  # noqa: ARG002  no bounds
        """Nothing is asked before the bell."""
        return ()

    def judge(self, signals: Signals, market: MarketView, frame: StrategySettings) -> Sequence[Check]:  # noqa: ARG002  for all alike
        """The spread, by the quotes of the market."""
        wide, none, quotes = Reason.SPREAD_WIDE, Reason.NO_QUOTE, market.quotes
        spread = np.full(len(signals), np.nan) if quotes is None else (quotes.ask - quotes.bid)[signals.cells[-1]]
        return (Check(name="spread", value=spread, high=0.5, below=wide, above=wide, unknown=none, required=True),)


class Scene:
    """A calm market at 100.00 whose entries wait `timeout_s` for a person, and one who confirms at a minute."""

    def __init__(self, home: Path, timeout_s: float) -> None:
        self.home = home
        self.world = World(SEED, (), rates={}, live=True, venues=1, minutes=30, character=VenueProfile())
        for path in self.world.market.paths.values():
            path.prices[:] = [PRICE] * len(path.prices)
            path.depth[:] = [10**15] * len(path.depth)
            path.quiet = frozenset()
        self._timeout_s = timeout_s
        self._life: BotProcess | None = None
        self._looks = False

    @property
    def symbol(self) -> str:
        """What is asked about."""
        return self.world.market.symbols[0]

    def falls(self, minute: int, price: int) -> None:
        """From that minute on the symbol trades at another price."""
        path = self.world.market.paths[self.symbol]
        for step in range(minute * STEPS_A_MINUTE, len(path.prices)):
            path.prices[step] = price

    def halts(self, minute: float, until: float) -> None:
        """The symbol does not trade."""
        steps = round(minute * STEPS_A_MINUTE), round(until * STEPS_A_MINUTE)
        self.world.market.paths[self.symbol].halts.append(steps)

    def quoted(self, bid: float, ask: float, minute: float) -> None:
        """From that minute on the symbol is quoted so."""
        since = LEAD_S + minute * 60

        def said(due: float, news: FeedMessage) -> FeedMessage:
            if isinstance(news, Quote) and news.symbol == self.symbol and due >= since:
                return attrs.evolve(news, bid=bid, ask=ask)
            return news

        self.world.__dict__["_script"] = [(due, said(due, news)) for due, news in self.world._script]

    def trade(self, confirmed: float, away: tuple[float, float] | None = None) -> list[Event]:
        """Trade the session; `away`: the process dies at the first minute, and is started again at the second."""

        async def lives() -> None:
            person = asyncio.ensure_future(self._confirm(confirmed))
            process = self._begin()
            if away is not None:
                await self._until(away[0])
                process.cancel()
                await asyncio.gather(process, return_exceptions=True)
                self._end()
                await self._until(away[1])
                self._looks = True
                process = self._begin()
            await asyncio.gather(process, person)
            self._end()

        self.world.run(lives)
        with closing(open_journal(self.home / "tbot.sqlite")) as journal:
            return [event for event in journal.events(kind=records.DECISION) if self.symbol in str(event.payload)]

    def _begin(self) -> asyncio.Future[None]:
        self._life = BotProcess(
            self.world, self.world.names, self.home, self._habits(), PlannedCrash(10**9, after=False)
        )
        return asyncio.ensure_future(self._life.live())

    def _end(self) -> None:
        assert self._life is not None
        self._life.close()

    async def _until(self, minute: float) -> None:
        await self.world.clock.sleep_until(self.world.session.open + dt.timedelta(minutes=minute))

    async def _confirm(self, minute: float) -> None:
        await self._until(minute)
        with closing(open_journal(self.home / "tbot.sqlite")) as journal:
            asked = next(iter(journal.events(kind=records.CONFIRMATION_ASKED)))
        arguments = {"id": asked.payload["id"]}
        assert self._life is not None
        if self._life.session is not None:
            meter = GaugeWriter(self.home, self.home / "tbot.sqlite", self.world.clock)
            meter.write_if_due(self._life.session.run, at_once=True)
        control.write_request(
            self.home / "control",
            control.ControlVerb.CONFIRM,
            actor="ann",
            now=self.world.clock.now(),
            arguments=arguments,
        )

    def _tell(self, entries: Sequence[NewEvent]) -> None:
        # While passed minutes are taken in, somebody looks for answers between two of them.
        session = None if self._life is None else self._life.session
        if self._looks and session is not None and any(one.kind == records.DECISION for one in entries):
            self._looks = False
            self._look = asyncio.ensure_future(session.run.resolve_confirmations())

    def _habits(self) -> BotConfig:
        window = Window(start=0, analysis=0, breakout=20, monitoring=6)
        strategy = ScriptedStrategy(
            window=window,
            calls=((ASKED, 0, 1), (LATER, 1, 1)),
            exits=ExitRules(leave=window.leave, hold=4),
            distance=0.02,
        )
        return BotConfig(
            entrants=(ActiveStrategy(name="told", rank=0, strategy=strategy, frame=StrategySettings()),),
            rules=lambda venue: rules(
                venue=venue,
                flatten_before_close=2,
                trade_confirmation_required=True,
                confirmation_timeout=self._timeout_s,
                filters={"narrow": Narrow()},
            ),
            stream=self.world.chances.stream("bot"),
            on_events=self._tell,
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bid", "ask", "reason", "reference"),
    [
        (99.99, 100.01, "ALLOWED", 100.01),
        (99.0, 101.0, "SPREAD_WIDE", None),
        (99.99, 0.0, "CONFIRMATION_EXPIRED", 100.03),
    ],
)
def test_an_approved_entry_is_held_against_the_quotes_of_now(
    tmp_path: Path, bid: float, ask: float, reason: str, reference: float | None
) -> None:
    """Wide it is denied, one-sided it waits for a quote until it expires; else its price is the quote's far side."""
    scene = Scene(tmp_path, timeout_s=300.0)
    scene.quoted(bid, ask, minute=3.1)
    (decision,) = scene.trade(confirmed=3.5)
    assert (decision.payload["reason"], decision.payload.get("reference")) == (reason, reference)


@pytest.mark.slow
def test_the_gauges_hold_the_quote_of_an_entry_that_waits(tmp_path: Path) -> None:
    """As received last, with its time: a person decides by the price now, not by that of the last minute."""
    scene = Scene(tmp_path, timeout_s=300.0)
    scene.quoted(100.11, 100.13, minute=3.1)
    scene.trade(confirmed=3.5)
    found = read_gauges(tmp_path)
    assert found is not None
    (quote,) = found.quotes.values()
    assert (quote.bid, quote.ask) == (Decimal("100.11"), Decimal("100.13"))
    assert dt.timedelta() <= found.at - quote.at < dt.timedelta(seconds=30)


@pytest.mark.slow
def test_an_approved_entry_waits_for_a_quote(tmp_path: Path) -> None:
    """As after a start, when none has arrived yet; it is sent at the first one that is in time."""
    scene = Scene(tmp_path, timeout_s=300.0)
    scene.quoted(99.99, 0.0, minute=3.1)
    scene.quoted(99.99, 100.01, minute=5.1)
    (decision,) = scene.trade(confirmed=3.5)
    assert (decision.payload["reason"], decision.payload["words"]) == ("ALLOWED", "confirmed by ann")


@pytest.mark.slow
@pytest.mark.parametrize(("confirmed", "reason"), [(5.2, "SYMBOL_HALTED"), (6.5, "SYMBOL_HALTED"), (7.5, "ALLOWED")])
def test_an_approved_entry_waits_for_two_full_bars_after_a_halt(tmp_path: Path, confirmed: float, reason: str) -> None:
    """It was asked about before the halt; what counts is the bar that has closed when it is approved."""
    scene = Scene(tmp_path, timeout_s=900.0)
    scene.halts(3.2, 4.8)
    (decision,) = scene.trade(confirmed)
    assert decision.payload["reason"] == reason


@pytest.mark.slow
@pytest.mark.parametrize(("timeout_s", "reason"), [(900.0, "CONFIRMED_TOO_LATE"), (300.0, "CONFIRMATION_EXPIRED")])
def test_what_was_approved_before_a_restart_is_decided_at_the_price_of_now(
    tmp_path: Path, timeout_s: float, reason: str
) -> None:
    """It is not decided while passed minutes are processed; after its expiry it is not sent, though it was answered."""
    scene = Scene(tmp_path, timeout_s)
    scene.falls(10, PRICE * 97 // 100)
    (decision,) = scene.trade(confirmed=3.4, away=(3.2, 15.5))
    assert decision.payload["reason"] == reason
    if reason == "CONFIRMED_TOO_LATE":
        assert decision.payload["price"] == pytest.approx(97.0, abs=0.1)
