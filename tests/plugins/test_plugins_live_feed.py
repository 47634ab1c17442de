"""A stranger's broker with a live feed of its own, installed as any other, and traded with through the run."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest

from tbot_core import cli
from tbot_core.actions.checks import check_instance
from tbot_core.alerts.rules import AlertRules, RoutineEvents
from tbot_core.contracts import Bar, FeedRequest, Urgency
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
from tbot_core.errors import DataError, SettingsError
from tbot_core.journal import records
from tbot_core.journal.store import Event, open_journal
from tbot_core.marketdata import received_bars, received_files
from tbot_core.marketdata.store.store import BarStore
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.clock import exchange_time
from tbot_core.rehearsal.bot import SimulatedCrash
from tbot_core.rehearsal.world import World
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tbot_core.instance import Mode
    from tbot_core.plugins.discovery import EntryPointInfo

ACME = '''
import attrs

from tbot_core.contracts import FeedLabel, FeedQuality, Plugin
from tbot_core.contracts.setting import choice, integer, setting
from tbot_core.contracts.hooks import hookimpl
from tbot_core.model.types import TICKS_PER_DOLLAR
from tbot_core.rehearsal.prices import STEP_S
from tbot_core.rehearsal.broker_client import SimulatedBroker
from tbot_core.rehearsal.world import World

WORLD = None
TRUTH = None
OFF = {}


@attrs.frozen(kw_only=True)
class Config:
    coverage: str = setting(
        "ACME_COVERAGE", choice("consolidated", "single_venue", "delayed"), default="consolidated", doc="Which feed."
    )
    subscriptions: int = setting("ACME_SUBSCRIPTIONS", integer(least=0, most=9), default="0", doc="How many symbols.")


def quality(config):
    return FeedQuality(
        coverage=config.coverage, subscriptions=config.subscriptions, quotes=True, halts=True, history_delay_s=1.0,
        minute_history=False,
    )


class Acme(SimulatedBroker):
    """An account and a feed."""

    label = FeedLabel(name="acme", simulated=True, quotes=True)

    def __init__(self, config):
        # It has no world where it is tried, in a process of its own: a trial that fails is repeated in each test.
        world = WORLD or World(46, (), rates={}, live=True)
        super().__init__(world.way(world.names[0]), world.clock)
        self._capabilities = attrs.evolve(super().capabilities, prices=True, feed=True)
        self.quality = TRUTH or quality(config)

    @property
    def capabilities(self):
        return self._capabilities

    async def prices(self, symbols):
        step = int((WORLD.clock.monotonic() - 300.0) // STEP_S)
        paths = {symbol: WORLD.market.paths[symbol] for symbol in symbols}
        mids = {symbol: (path.bid(step) + path.ask(step)) / 2 / TICKS_PER_DOLLAR for symbol, path in paths.items()}
        return {symbol: price * OFF.get(symbol, 1.0) for symbol, price in mids.items()}

    def feed(self, request):
        return self

    async def sessions(self):
        live = WORLD.live_feed()
        live.quality = self.quality
        yield live


@hookimpl
def tbot_broker():
    return Plugin(
        name="acme", summary="A broker", config=Config, create=lambda config, context: Acme(config), quality=quality,
    )
'''

SETTINGS = {
    "BROKER_NAME": "ACME",
    "CRITICAL_ALERT_CHANNEL": "console",
    "ROUTINE_ALERT_CHANNEL": "console",
    "STRATEGY_SEQUENCE": "open",
    "START_TIME_OPEN": "14:30",
    "OPEN_ANALYSIS_TIME": "3",
    "OPEN_BREAKOUT_TIME": "9",
    "OPEN_MONITORING_TIME": "5",
    "STRAT_OPEN_BUFFER": "0",
    "FILTERS": "price_volume",
    "MAX_GAP_PCT_OPEN": "0.5",
    "FILTER_MISSING_DATA": "pass",
}


@attrs.define(eq=False)
class House:
    """An instance that trades with the stranger's broker in a world without faults; stopped at that second."""

    world: World
    home: Path
    module: Any
    stops_at: float | None = None

    def run(self, mode: Mode = "paper", **settings: str) -> RunOutcome:
        """One session; a live one is put together like a paper one, which no file approves."""
        self.settle(**settings)
        matching = self.world.ways[0].exchange.matching
        matching.character = attrs.evolve(matching.character, live=mode == "live")
        assembly = assemble(self.home, "paper", self.world.clock)
        plan = RunPlan(
            assembly=attrs.evolve(
                assembly, calendar=self.world.calendar, settings=attrs.evolve(assembly.settings, mode=mode)
            ),
            request=FeedRequest(kind="live", symbols=assembly.settings.trading.universe),
            wall=self.world.clock,
            once=True,
            watch_s=30.0,
        )
        if self.stops_at is not None:
            self.world.loop.call_at(self.stops_at, plan.stop.set)
        return self.world.run(lambda: run(plan, RunWatcher()))

    def again(self, at: float) -> None:
        """The same world once more, from that second on."""
        self.world, self.stops_at = World(46, (), rates={}, live=True), None
        self.world.loop.pass_time(at)
        vars(self.module)["WORLD"] = self.world

    def settle(self, **settings: str) -> None:
        """Write the settings."""
        texts = SETTINGS | settings
        filesystem.write_atomic(
            self.home / ".env_bot", "".join(f"{key}={text}\n" for key, text in texts.items()).encode()
        )

    def events(self, kind: str) -> list[Event]:
        """What the journal holds of a kind."""
        with closing(open_journal(self.home / "data" / "tbot.sqlite")) as journal:
            return list(journal.events(kind=kind))

    def recorded(self) -> received_bars.RecordedSession:
        """The session's bars as they were received."""
        path = received_files.recorded_file(self.home / "data" / received_files.FOLDER, self.world.session.date)
        assert path is not None
        return received_bars.read_recording(path)


@pytest.fixture
def house(tmp_path: Path, plant: Callable[..., EntryPointInfo]) -> House:
    """The plugin is installed, and finds the world by its own module."""
    plant("acme", ACME, kind="broker")
    module = importlib.import_module("their_acme")
    home = tmp_path / "home"
    home.mkdir()
    world = World(46, (), rates={}, live=True)
    vars(module)["WORLD"] = world
    return House(world, home, module)


@pytest.mark.slow
def test_a_strangers_live_feed_is_traded_on(house: House) -> None:
    """Its bars become the session's minutes, its quotes price what is entered, and every minute is kept as it came."""
    outcome = house.run()
    assert outcome.summary.sessions == 1
    assert {one.payload["source"] for one in house.events(records.RUN_STARTED)} == {"acme"}
    decisions = [one.payload for one in house.events(records.DECISION)]
    assert [one for one in decisions if one["reason"] == "ALLOWED"]
    assert house.events(records.FEEDS_APART) == []
    assert all(one["reference"] > 0 for one in decisions if one["reason"] == "ALLOWED")
    kept = house.recorded()
    assert kept.symbols == house.world.market.symbols
    assert [one.minute.index for one in kept.records] == list(range(house.world.session.minutes))
    assert (kept.header.source, kept.header.coverage) == ("acme", "consolidated")


@pytest.mark.slow
@pytest.mark.parametrize("grace_s", [1.0, 7.0])
def test_a_minute_waits_for_its_bars_as_long_as_bar_grace(house: House, grace_s: float) -> None:
    """One whose bars did not all come is decided when that has passed, and none later."""
    house.run(BAR_GRACE=f"{grace_s:.0f}s")
    kept = house.recorded()
    waits = [(one.at - kept.session.moment(one.minute.index + 1)).total_seconds() for one in kept.records]
    assert grace_s - 0.1 <= max(waits) < grace_s + 1.0


@pytest.mark.slow
def test_a_delayed_feed_is_never_traded_live(house: House) -> None:
    """It is refused before anything is connected, with exit code 3; on paper the run's notes say so."""
    with pytest.raises(SettingsError, match="acme is delayed; live trading never uses delayed prices") as refused:
        house.run("live", ACME_COVERAGE="delayed")
    assert refused.value.exit_code == 3
    assert house.events(records.RUN_STARTED) == []


@pytest.mark.slow
def test_a_delayed_feed_is_named_on_paper(house: House) -> None:
    """The run's start says it, where every report and the banner have their notes from."""
    house.run(ACME_COVERAGE="delayed")
    (start,) = house.events(records.RUN_STARTED)
    assert [note for note in start.payload["notes"] if "DELAYED" in note]


@pytest.mark.slow
def test_a_feed_that_turns_out_to_be_delayed_is_refused_too(house: House) -> None:
    """What a session says of itself counts, whatever its plugin had declared."""
    vars(house.module)["TRUTH"] = house.module.quality(house.module.Config(coverage="delayed", subscriptions=0))
    with pytest.raises(SettingsError, match="live trading never uses delayed prices"):
        house.run("live")
    assert house.events(records.SESSION_OPENED) == []


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["ACME_SUBSCRIPTIONS", "UNIVERSE_MAX"])
def test_the_universe_is_cut_to_what_may_be_subscribed(house: House, limit: str) -> None:
    """The largest by 20-day dollar volume are subscribed, the others named in the journal and in the recording."""
    house.run("paper", **{limit: "1"})
    (universe_event,) = house.events(records.UNIVERSE)
    kept = house.recorded()
    assert (universe_event.payload["kept"], universe_event.payload["limit"]) == (1, 1)
    assert set(kept.symbols) | set(universe_event.payload["cut"]) == set(house.world.market.symbols)
    assert kept.header.cut == tuple(universe_event.payload["cut"])
    assert universe_event.payload["by"] == (
        "UNIVERSE_MAX" if limit == "UNIVERSE_MAX" else "the feed's limit of subscriptions"
    )
    (opened,) = house.events(records.SESSION_OPENED)
    assert opened.payload["symbols"] == 1


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_the_facts_of_a_session_come_from_the_minutes_of_those_before_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are downloaded into the bar store once, and a replay of that day would have the same facts."""
    vars(house.module)["TRUTH"] = attrs.evolve(house.world.live_feed().quality, minute_history=True)
    subject, opens, asked = type(house.world.live_feed()), house.world.session.open, list[tuple[str, ...]]()
    inner, whole = subject.history, house.world.universe()
    closes = dict(zip(whole.symbols, whole.day.previous_close.tolist(), strict=True))

    async def history(self: Any, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        if last > opens:
            return await inner(self, symbols, first, last)
        asked.append(tuple(symbols))
        days = [one for one in ExchangeCalendar().sessions(first.date(), last.date()) if one.close <= last]
        return [_flat(one, day.moment(at), closes[one]) for one in symbols for day in days for at in range(day.minutes)]

    monkeypatch.setattr(subject, "history", history)
    house.stops_at = 400.0
    house.run()
    kept, requests = house.recorded(), len(asked)
    store = BarStore(folder=house.home / "data" / "bars", calendar=house.world.calendar)
    replay = store.facts([house.world.session], kept.symbols).session(0)
    for name in ("previous_close", "average_volume", "atr", "restricted"):
        np.testing.assert_array_equal(getattr(kept.day, name), getattr(replay, name), err_msg=name)
    assert kept.day.previous_close.tolist() == list(closes.values())
    assert set(kept.day.average_volume.tolist()) == {39_000.0}
    house.again(460.0)
    assert house.run().summary.sessions == 1
    assert requests
    assert len(asked) == requests


def _flat(symbol: str, start: dt.datetime, price: float) -> Bar:
    # A minute at one price.
    return Bar(symbol=symbol, start=start, open=price, high=price, low=price, close=price, volume=100.0)


@pytest.mark.slow
def test_f57_a_symbol_on_which_feed_and_broker_differ_is_not_entered(house: House) -> None:
    """It is written down once, with both prices, and its signals are denied; other symbols are entered."""
    vars(house.module)["OFF"] = {"AMD": 1.03}
    house.run()
    (apart,) = house.events(records.FEEDS_APART)
    assert (apart.payload["symbol"], apart.payload["there"]) == ("AMD", True)
    assert float(apart.payload["theirs"]) > float(apart.payload["feed"])
    reasons = {(one.payload["signal"]["symbol"], one.payload["reason"]) for one in house.events(records.DECISION)}
    assert ("AMD", "FEEDS_APART") in reasons
    assert ("AMD", "ALLOWED") not in reasons


@pytest.mark.slow
@pytest.mark.parametrize(("call", "cause"), [("snapshot", "BROKER_PLUGIN"), ("messages", "PLUGIN_LOST")])
def test_a_plugin_that_raises_ends_no_session(
    house: House, monkeypatch: pytest.MonkeyPatch, call: str, cause: str
) -> None:
    """Its failures are journaled with its name; the third leaves exits only, and the session is closed as ever."""
    subject = house.module.Acme if call == "snapshot" else type(house.world.live_feed())
    inner = getattr(subject, call)

    def fail_if_due() -> None:
        if 600.0 < house.world.clock.monotonic() < 720.0:
            raise KeyError("acme")

    async def snapshot(self: object, since: object) -> Any:
        fail_if_due()
        return await inner(self, since)

    async def messages(self: object, symbols: object) -> Any:
        async for one in inner(self, symbols):
            fail_if_due()
            yield one

    monkeypatch.setattr(subject, call, snapshot if call == "snapshot" else messages)
    outcome = house.run()
    assert outcome.summary.sessions == 1
    failed = [one.payload for one in house.events(records.PLUGIN_FAILED)]
    assert {(one["plugin"], one["call"]) for one in failed} == {("broker/acme", call)}
    assert [one["off"] for one in failed[:3]] == [False, False, True]
    states = [one.payload for one in house.events(records.STATE) if one.payload["cause"] == cause]
    assert (states[0]["there"], states[0]["state"], states[-1]["words"]) == (True, "exit-only", "over")
    (notice,) = AlertRules(RoutineEvents()).apply(house.events(records.PLUGIN_FAILED)[2])
    assert notice.urgency is Urgency.CRITICAL
    assert "Plugin broker/acme fails (3 in 10 min): no entries until it works; last error: " in notice.what


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_broker_that_only_supplies_bars_is_closed_too(
    house: House, plant: Callable[..., EntryPointInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both connections end with the run; one that hangs or fails delays neither the other nor the outcome."""
    plant("beta", ACME.replace('name="acme"', 'name="beta"'), kind="broker")
    data = importlib.import_module("their_beta")
    vars(data)["WORLD"] = house.world
    closed = list[str]()

    async def hang(_self: object) -> None:
        closed.append("acme")
        await asyncio.sleep(86_400)

    async def fail(_self: object) -> None:
        closed.append("beta")
        raise KeyError("socket")

    monkeypatch.setattr(house.module.Acme, "close", hang)
    monkeypatch.setattr(data.Acme, "close", fail)
    assert house.run(DATA_SOURCE="BETA").summary.sessions == 1
    assert sorted(closed) == ["acme", "beta"]


def crash() -> None:
    """The process ends here."""
    raise SimulatedCrash


PAPER = {"BROKER_NAME": "PAPER", "DATA_SOURCE": "ACME", "ENTRY_ORDER_TYPE": "market", "SHORT_TYPE_OPEN": "ShortSell"}


@pytest.mark.slow
def test_paper_trades_on_the_minutes_of_a_live_feed(house: House) -> None:
    """Its fills are the simulator's, at prices of the feed's bars, and its quotes price what is entered."""
    outcome = house.run("paper", **PAPER)
    assert outcome.summary.sessions == 1
    assert outcome.summary.trades
    kept = {one.minute.index: one.minute for one in house.recorded().records}
    assert sorted(kept) == list(range(house.world.session.minutes))
    for trade in outcome.summary.trades:
        minute = kept[house.world.session.minute(trade.entry_time)]
        row = house.world.market.symbols.index(trade.symbol)
        assert float(trade.entry_price) == pytest.approx(minute.open[row], rel=0.002)  # but for slippage
    (start,) = house.events(records.RUN_STARTED)
    assert start.payload["source"] == "acme"
    for words in ("simulated from the closed minutes", "assumed to be shortable"):
        assert any(words in note for note in start.payload["notes"])
    (end,) = (event.received for event in house.events(records.SESSION_CLOSED))
    assert house.world.session.close <= end < house.world.session.close + dt.timedelta(seconds=5)


@pytest.mark.slow
@pytest.mark.parametrize(("coverage", "fills"), [("single_venue", True), ("consolidated", False)])
def test_no_volume_limit_applies_on_paper_to_a_feed_of_one_venue(house: House, coverage: str, fills: bool) -> None:
    """Its volumes are a part of the tape: they cap no fill, while those of a consolidated feed do."""
    outcome = house.run("paper", **PAPER, ACME_COVERAGE=coverage, VOLUME_LIMIT="0.000001")
    assert bool(outcome.summary.trades) is fills


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize("stop_s", [560.0, 730.0, 1_000.0])
def test_paper_on_a_live_feed_goes_on_after_an_interruption(house: House, stop_s: float) -> None:
    """What was decided stays; the signals of the minutes that closed meanwhile are too late, and exits go on."""
    house.world.loop.call_at(stop_s, crash)
    with pytest.raises(SimulatedCrash):
        house.run("paper", **PAPER)
    said = [one.payload for one in house.events(records.DECISION)]
    house.again(stop_s + 130.0)
    outcome = house.run("paper", **PAPER)
    assert outcome.summary.sessions == 1
    assert len(house.events(records.SESSION_CLOSED)) == 1
    decided = [one.payload for one in house.events(records.DECISION)]
    assert decided[: len(said)] == said
    assert outcome.open == ()
    assert [one.minute.index for one in house.recorded().records] == list(range(house.world.session.minutes))


@pytest.mark.slow
def test_paper_ends_a_session_of_yesterday_without_its_feed(house: House) -> None:
    """What was open at the bell closes at the last price that the venue has seen."""
    house.world.loop.call_at(900.0, crash)
    with pytest.raises(SimulatedCrash):
        house.run("paper", **PAPER)
    house.again(80_000.0)
    with pytest.raises(DataError, match="acme supplies no bars of 2026-03-04"):
        house.run("paper", **PAPER)
    (closed,) = house.events(records.SESSION_CLOSED)
    assert closed.payload["date"] == "2026-03-03"
    assert house.events(records.STUCK) == []


@pytest.mark.slow
def test_any_minute_of_a_live_session_is_worked_out_anew_from_its_recording(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    """`tbot why` needs neither feed nor history: the bar is the one that was first received, and levels are there."""
    house.run()
    kept = house.recorded()
    symbol, minute = kept.symbols[0], kept.records[6]
    at = exchange_time(kept.session.moment(7))
    capsys.readouterr()
    assert cli.invoke(["why", symbol, "--at", f"{at:%H:%M}", "--json", "--home", str(house.home)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["note"] == ""
    (shown,) = found["minutes"]
    assert shown["bar"]["close"] == minute.minute.close[0]
    (part,) = shown["strategies"]
    assert [one["level"] for one in part["comparisons"]]
    quotes = minute.quotes
    assert quotes is not None
    assert shown["quote"] == attrs.asdict(quotes.of(0))  # type: ignore[arg-type]  # there is one
    assert "spread" in {one["check"] for one in part["findings"]}
    assert kept.quotes(0) is None  # no window looked at any


@pytest.mark.slow
def test_a_decision_shows_the_quote_that_it_was_made_by(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """It is in the journal, so that it is known where the recording is gone, too."""
    house.run()
    decided = [one.payload for one in house.events(records.DECISION)]
    assert all(0 < one["quote"]["bid"] <= one["quote"]["ask"] for one in decided)
    allowed = [one for one in decided if one["reason"] == "ALLOWED"]
    assert allowed
    assert all(one["reference"] == one["quote"]["ask" if one["side"] == "long" else "bid"] for one in allowed)
    symbol = allowed[0]["signal"]["symbol"]
    for words, count in (("  quote: bid ", 1), ("    by the quote bid ", 1)):
        capsys.readouterr()
        assert cli.invoke(["why", symbol, "--home", str(house.home)]) == 0
        assert capsys.readouterr().out.count(words) >= count
    for path in (house.home / "data" / received_files.FOLDER).iterdir():
        path.unlink()
    assert cli.invoke(["why", symbol, "--home", str(house.home)]) == 0
    assert "    by the quote bid " in capsys.readouterr().out


@pytest.mark.slow
def test_a_symbol_that_a_limit_cut_has_its_reason(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """`tbot why` answers UNIVERSE_TRUNCATED for it, and `tbot status` says how many are subscribed."""
    house.run("paper", ACME_SUBSCRIPTIONS="1")
    capsys.readouterr()
    cut = house.recorded().header.cut[0]
    assert cli.invoke(["why", cut, "--json", "--home", str(house.home)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["reason"] for one in found["screening"]} == {"UNIVERSE_TRUNCATED"}


@pytest.mark.slow
@pytest.mark.parametrize(("coverage", "level"), [("consolidated", "ok"), ("single_venue", "ok"), ("delayed", "warn")])
def test_the_check_prints_what_a_feed_declares(house: House, coverage: str, level: str) -> None:
    """Coverage, subscriptions, and how late its history is; a delayed one is a warning on paper."""
    house.settle(ACME_COVERAGE=coverage, ACME_SUBSCRIPTIONS="5")
    (row,) = [row for row in check_instance(house.home) if row.subject == "feed"]
    assert row.level == level
    history = "history 1 s late and of the session only"
    words = f"{coverage.replace('_', ' ')}, at most 5 symbols, {history}, quotes, halts reported"
    assert row.message == f"The feed of acme: {words}."
    assert ("live trading never uses delayed prices" in row.remedy) is (level == "warn")
