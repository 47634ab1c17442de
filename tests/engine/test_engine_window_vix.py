"""VIX_SOURCE=live: each window sees the VIX of the minute in which its entries begin, and a replay sees it again."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import numpy as np
import pytest

from tbot_core.contracts import BrokerCapabilities, Check, IndexQuote
from tbot_core.contracts.settings import StrategySettings
from tbot_core.engine.session.vix import live_vix_brokers
from tbot_core.errors import SettingsError, Unavailable
from tbot_core.journal import records
from tbot_core.journal.projections.vix import recorded_vix, recorded_vix_in, with_recorded_vix
from tbot_core.journal.store import Event, open_journal
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules, Signals
from tbot_core.model.window import Window
from tbot_core.rehearsal.bot import BotConfig, BotProcess, PlannedCrash, ScriptedStrategy
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.rehearsal.world import World
from tbot_core.testing.trades import rules
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tbot_core.instance import Settings
    from tbot_core.model.bars import Bars
    from tbot_core.model.day_facts import DayFacts

SEED: Final = 4
ENTRY: Final = 6


class Index:
    """Says the VIX: a value at a minute of the session and how old it is then, None for no answer."""

    capabilities = BrokerCapabilities(live_vix=True)

    def __init__(self, says: Callable[[float], tuple[float, float] | None]) -> None:
        self.asked: list[float] = []
        self._says = says
        self.world: World

    async def vix_now(self) -> IndexQuote | None:
        """The value of now."""
        minute = (self.world.clock.now() - self.world.session.open).total_seconds() / 60
        self.asked.append(minute)
        said = self._says(minute)
        if said is None:
            raise Unavailable("no way")
        return IndexQuote(value=said[0], time=self.world.clock.now() - dt.timedelta(seconds=said[1]))


class Unknowing:
    """Has the index, and no value today."""

    async def vix_now(self) -> IndexQuote | None:
        """None."""
        return None


@attrs.frozen(kw_only=True, eq=False)
class Careful:
    """Signals at minute ENTRY, unless the VIX lies under 20 or is unknown."""

    window: Window
    inner: ScriptedStrategy

    def screen(self, day: DayFacts) -> Sequence[Check]:
        """Every symbol sees the same VIX."""
        values = np.broadcast_to(day.vix, day.previous_close.shape)
        return [Check(name="vix", value=values, low=20.0, below=Reason.VIX_LOW, above=Reason.VIX_LOW,
                      unknown=Reason.VIX_UNKNOWN, required=True)]  # fmt: skip

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """What was drawn."""
        return self.inner.scan(bars, day, since)


def entrant(name: str = "careful") -> ActiveStrategy:
    """The strategy."""
    window = Window(start=0, analysis=ENTRY, breakout=6, monitoring=6)
    inner = ScriptedStrategy(window=window, calls=((ENTRY, 0, 1),), exits=ExitRules(leave=window.leave), distance=0.02)
    return ActiveStrategy(name=name, rank=0, strategy=Careful(window=window, inner=inner), frame=StrategySettings())


def lived(home: Path, *sources: Any, dies: float | None = None) -> list[Event]:
    """What a day came to on which these say the VIX; killed at a minute, the bot comes again."""
    world = World(SEED, (), rates={}, live=False, venues=1, minutes=25, character=VenueProfile())
    for path in world.market.paths.values():
        path.prices[:] = [1_000_000] * len(path.prices)
        path.depth[:] = [10**15] * len(path.depth)
        path.quiet = frozenset()
    for one in sources:
        vars(one)["world"] = world

    def life() -> BotProcess:
        bot = BotConfig(
            entrants=(entrant(),),
            rules=lambda venue: rules(venue=venue),
            stream=world.chances.stream("bot"),
            vix=tuple(sources) or None,
        )
        return BotProcess(world, world.names, home, bot, PlannedCrash(10**9, after=False))

    async def go() -> None:
        if dies is not None:
            first = life()
            process = asyncio.ensure_future(first.live())
            await world.clock.sleep_until(world.session.open + dt.timedelta(minutes=dies))
            process.cancel()
            await asyncio.gather(process, return_exceptions=True)
            first.close()
        last = life()
        await last.live()
        last.close()

    world.run(go)
    with closing(open_journal(home / "tbot.sqlite")) as journal:
        return list(journal.events())


def of(events: list[Event], kind: str) -> list[dict[str, Any]]:
    """What events of a kind say."""
    return [dict(event.payload) for event in events if event.kind == kind]


@pytest.mark.first(1)
@pytest.mark.parametrize(("value", "entered", "candidates"), [(25.0, 1, True), (15.0, 0, False)])
def test_a_window_sees_the_vix_as_its_entries_begin(
    tmp_path: Path, value: float, entered: int, candidates: bool
) -> None:
    """It is written down with its time and who may be entered by it, whatever the close of the day before was."""
    index = Index(lambda _minute: (value, 1.0))
    events = lived(tmp_path, Unknowing(), index)
    (said,) = of(events, records.VIX)
    assert (said["strategy"], said["value"], said["candidates"] > 0) == ("careful", value, candidates)
    moment = dt.datetime.fromisoformat(said["time"])
    opened = dt.datetime.fromisoformat(of(events, records.SESSION_OPENED)[0]["open"])
    assert dt.timedelta(minutes=ENTRY) < moment - opened <= dt.timedelta(minutes=ENTRY + 1.1)
    assert len(of(events, records.DECISION)) == entered


def test_it_is_asked_for_from_two_minutes_before_a_window_until_it_is_taken(tmp_path: Path) -> None:
    """Every ten seconds, and not the whole day long."""
    index = Index(lambda _minute: (25.0, 1.0))
    lived(tmp_path, index)
    assert ENTRY - 2 <= min(index.asked) < ENTRY - 1.8
    assert ENTRY + 0.8 < max(index.asked) < ENTRY + 1.2


@pytest.mark.first(1)
@pytest.mark.parametrize(
    "says",
    [
        lambda _minute: None,
        lambda _minute: (25.0, 61.0),
        lambda _minute: (25.0, -61.0),
        lambda _minute: (float("nan"), 1.0),
        lambda _minute: (-3.0, 1.0),
        lambda minute: (25.0, 1.0) if minute < ENTRY - 0.2 else None,
    ],
    ids=["no answer", "too old", "from the future", "not a number", "negative", "known once"],
)
def test_what_is_not_known_a_minute_ago_is_unknown(
    tmp_path: Path, says: Callable[[float], tuple[float, float] | None]
) -> None:
    """Nothing is entered; the close of the day before does not stand in."""
    events = lived(tmp_path, Index(says))
    (said,) = of(events, records.VIX)
    assert (said["value"], said["time"], said["candidates"]) == (None, None, 0)
    assert of(events, records.DECISION) == []


@pytest.mark.first(1)
@pytest.mark.parametrize("dies", [ENTRY + 1.4, ENTRY - 3.0])
def test_a_restart_goes_on_with_what_was_taken(tmp_path: Path, dies: float) -> None:
    """One value a window: after its entries have begun no broker is asked any more."""
    index = Index(lambda minute: (25.0 if minute < ENTRY + 1.2 else 15.0, 1.0))
    events = lived(tmp_path, index, dies=dies)
    assert [one["value"] for one in of(events, records.VIX)] == [25.0]
    assert max(index.asked) < ENTRY + 1.2


def test_who_says_the_vix_is_asked_live_alone_and_must_be_there() -> None:
    """On paper, and with previous_close, no broker is asked; without a source the start is refused, with the remedy."""
    index = Index(lambda _minute: None)

    def settings(mode: str, source: str) -> Settings:
        return cast("Settings", SimpleNamespace(mode=mode, trading=SimpleNamespace(vix_source=source)))

    assert live_vix_brokers(settings("paper", "live"), [object()]) is None
    assert live_vix_brokers(settings("live", "previous_close"), [object()]) is None
    assert live_vix_brokers(settings("live", "live"), [None, object(), index]) == (index,)
    with pytest.raises(SettingsError, match="neither DATA_SOURCE nor an enabled broker") as refused:
        live_vix_brokers(settings("live", "live"), [None, object()])
    assert "VIX_SOURCE=previous_close" in refused.value.remedy


def test_what_was_told_is_seen_again_by_strategy_and_session(tmp_path: Path) -> None:
    """In a month of sessions the others keep their close of the day before; unknown stays unknown."""
    lived(tmp_path, Index(lambda _minute: (25.0, 1.0)))
    known = recorded_vix_in(tmp_path / "tbot.sqlite")
    (key,) = known
    assert known == {key: 25.0}
    assert recorded_vix_in(tmp_path / "nowhere.sqlite") == {}
    day = dt.date.fromisoformat(key[0])
    dates = [day - dt.timedelta(days=1), day, day + dt.timedelta(days=1)]
    world = World(SEED, (), rates={})
    facts = world.feed().day
    world.loop.finish()
    month = attrs.evolve(facts, vix=np.array([[10.0], [11.0], [12.0]]))
    assert with_recorded_vix(month, dates, "careful", known).vix.tolist() == [[10.0], [25.0], [12.0]]
    assert with_recorded_vix(month, dates, "another", known) is month
    unknown = {(day.isoformat(), "careful"): float("nan")}
    assert np.isnan(with_recorded_vix(facts, [day], "careful", unknown).vix).tolist() == [True]
    assert recorded_vix([]) == {}
