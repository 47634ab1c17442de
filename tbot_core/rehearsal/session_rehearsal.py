"""A recorded session traded by a broker plugin at its own venue, and the same session replayed under its capabilities.

Both have the settings of an instance and the bars of its store. The live run reads everything over real connections of
this machine: the past sessions, the minutes, the quotes, the account, and what becomes of its orders.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter, defaultdict
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core import instance as configuration
from tbot_core.contracts import BrokerEventKind, FeedRequest, OrderStatus
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
from tbot_core.errors import UsageError
from tbot_core.instance import Instance
from tbot_core.journal import records
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.store import Event, read_journal
from tbot_core.marketdata import received_bars, received_files
from tbot_core.marketdata.store import manifest, reference
from tbot_core.marketdata.store.store import BarStore
from tbot_core.model.formatting import plural
from tbot_core.model.types import Side, dollars_of, quantity_of
from tbot_core.plugins import discovery
from tbot_core.rehearsal.broker_day import BrokerDay, addresses, open_day, venue_summary
from tbot_core.rehearsal.broker_rehearsal import alert_settings, live_with_faults, sent_twice
from tbot_core.rehearsal.random_streams import RandomStreams
from tbot_core.rehearsal.recorded_market import RecordedMarket, VenueTerms
from tbot_core.rehearsal.session_parity import Cause, Difference, SessionRecord, by_cause, differences
from tbot_core.system import filesystem
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tbot_core.contracts import AccountSnapshot, BrokerCapabilities, Plugin
    from tbot_core.engine.assembly import Assembly
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Fill

_COMMON: Final = {
    "FRACTIONAL": "false",
    "FIXED_QUANTITY": "0",
    "TRADE_CONFIRMATION_REQUIRED": "false",
    "FAILOVER_ENABLED": "false",
    "DATA_SOURCE": "",
    "EXTENSIONS": "none",
    "ENTRY_TTL": "10m",
}
"""Settings of both runs. What fills is known at the end of a minute, so that an entry works for up to three minutes."""

_OFTEN: Final = 0.1
_CENT: Final = Decimal("0.01")


@attrs.frozen(kw_only=True)
class SessionTerms:
    """How a recorded session is traded: the distance of bid and ask from the last close; with a seed, its faults."""

    half_spread: Decimal = Decimal(0)
    seed: int | None = None


@attrs.frozen(kw_only=True)
class SessionReport:
    """A recorded session that was traded: its counts, the differences from its replay, and what does not agree.

    `shorts` are those of the trades that began with a short sale. `denials`: how many by reason code. With faults it is
    not compared with a replay. `disagreements` are those of venue, journal and bot at its end.
    """

    day: dt.date
    terms: SessionTerms
    decisions: int
    orders: int
    fills: int
    faults: dict[str, int]
    venue: tuple[str, ...]
    trades: int = 0
    shorts: int = 0
    denials: dict[str, int] = attrs.field(factory=dict)
    differences: tuple[Difference, ...] = ()
    disagreements: tuple[str, ...] = ()

    @property
    def violations(self) -> tuple[str, ...]:
        """The differences without a cause, and what does not agree."""
        unexplained = [one.sentence for one in self.differences if one.cause is Cause.NONE]
        return (*unexplained, *self.disagreements)

    def document(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return {
            "session": self.day.isoformat(),
            "half_spread": f"{self.terms.half_spread:f}",
            "seed": self.terms.seed,
            "decisions": self.decisions,
            "orders": self.orders,
            "fills": self.fills,
            "trades": self.trades,
            "shorts": self.shorts,
            "denials": dict(sorted(self.denials.items())),
            "faults": dict(sorted(self.faults.items())),
            "causes": self.causes,
            "differences": [one.sentence for one in self.differences],
            "violations": list(self.violations),
            "venue": list(self.venue),
        }

    @property
    def causes(self) -> dict[str, int]:
        """How many differences from the replay each cause has, by its name."""
        return {cause.name: count for cause, count in sorted(by_cause(self.differences).items())}

    def lines(self) -> list[str]:
        """The report as text."""
        counts = [(self.decisions, "decision"), (self.orders, "order"), (self.fills, "fill"), (self.trades, "trade")]
        traded = ", ".join(plural(count, word) for count, word in counts)
        traded += f" ({self.shorts} short)" if self.shorts else ""
        most = sorted(self.denials.items(), key=lambda pair: (-pair[1], pair[0]))
        denied = ", ".join(f"{name} {count}" for name, count in most)
        kinds = ", ".join(f"{name} x{times}" for name, times in sorted(self.faults.items()))
        listed = ", ".join(f"{name} {count}" for name, count in self.causes.items())
        compared = f"differences from the replay: {listed or 'none'}"
        agreed = "venue, journal and bot agree" if not self.disagreements else "venue, journal and bot do not agree"
        return [
            f"{self.day}: {traded}",
            f"denials: {denied or 'none'}",
            compared if self.terms.seed is None else f"faults of seed {self.terms.seed}: {kinds or 'none'}",
            *(f"  {one.sentence}" for one in self.differences),
            agreed,
            *(f"  {words}" for words in self.disagreements),
            *self.venue,
        ]


def recorded_days(home: Path, first: dt.date, last: dt.date, clock: Clock) -> tuple[dt.date, ...]:
    """The sessions of a range that an instance has bars of; raises DataError for none."""
    assembly = assemble(home, "replay", clock)
    store, symbols = _store(assembly), assembly.settings.trading.universe
    found = store.sessions(first, last, symbols or None)
    if not found:
        raise store.absence(first, last, symbols)
    return tuple(session.date for session in found)


def rehearse_session(plugin: Plugin, home: Path, day: dt.date, terms: SessionTerms, clock: Clock) -> SessionReport:
    """Trade the session of a day at the plugin's venue, and compare it with its replay unless it has faults.

    Raises PluginError for a plugin whose venue trades no recorded session, DataError for a day without bars, UsageError
    for a day without a session.
    """
    source = assemble(home, "replay", clock)
    market, faults = _market(source, day, terms), Counter[str]()
    with filesystem.scratch_folder() as scratch, open_day(plugin, scratch, market, source.calendar, day) as (at, go):
        _settle(home, scratch, {"BROKER_NAME": plugin.name.upper(), **addresses(plugin, at.venue)})
        _copy_facts(source.settings.instance.bars, Instance.at(scratch).bars)
        outcome = go(lambda day: _live(day, market, terms, faults))
        account = at.venue.wait(at.venue.broker.snapshot(market.session.open))
        events = _events(Instance.at(scratch).journal)
        report = _report(day, terms, events, faults, venue_summary(at.venue))
        twice = sent_twice(at.venue.server.requests, events)
        if isinstance(outcome, str):
            return attrs.evolve(report, disagreements=(outcome, *twice))
        trades = outcome.summary.trades
        problems = (*disagreements(outcome, events, account, market.fills), *twice)
        shorts = sum(one.side is Side.SHORT for one in trades)
        report = attrs.evolve(report, trades=len(trades), shorts=shorts, disagreements=problems)
        if terms.seed is not None:
            return report
        replayed = _replay(scratch, day, source.settings.instance.bars, at.venue.broker.capabilities, clock)
        live = SessionRecord(events=events, trades=trades)
        return attrs.evolve(report, differences=tuple(differences(live, replayed, market.session, terms.half_spread)))


def _report(
    day: dt.date, terms: SessionTerms, events: Sequence[Event], faults: Counter[str], venue: tuple[str, ...]
) -> SessionReport:
    kinds = Counter(event.kind for event in events)
    return SessionReport(
        day=day,
        terms=terms,
        decisions=kinds[records.DECISION],
        orders=kinds[records.SENDING],
        fills=kinds[BrokerEventKind.FILL],
        denials=dict(fold_events(events).denials),
        faults=dict(faults),
        venue=venue,
    )


def disagreements(
    outcome: RunOutcome, events: Sequence[Event], account: AccountSnapshot, told: Sequence[Fill]
) -> list[str]:
    """Where the venue's account, the journal and the bot differ in positions, cash and fills after the close.

    `told` are the fills that the venue was told. Cash is compared to the cent; the venue books no fees in the session.
    """
    closed = [event.payload for event in events if event.kind == records.SESSION_CLOSED]
    if len(closed) != 1:
        return [f"DAY: the session was closed {len(closed)} times"]
    book = fold_events(events).portfolio
    theirs = {one.symbol: one.quantity for one in account.holdings if one.quantity}
    ours = {symbol: quantity_of(one.units) * one.side for symbol, one in book.positions.items()}
    found = []
    if theirs != ours or {*outcome.open, *closed[0]["open"]} != theirs.keys():
        bots = sorted({*outcome.open, *closed[0]["open"]})
        found.append(f"HELD: {theirs} at the venue, {ours} in the journal, {bots} by the bot")
    found += [
        f"WORKING: {one.client_order_id} works at the venue after the close"
        for one in account.orders
        if one.kind is OrderStatus.WORKING
    ]
    cash = account.account.cash, dollars_of(book.cash_atoms), Decimal(closed[0]["cash"])
    if max(cash) - min(cash) >= _CENT:
        found.append("CASH: {} at the venue, {} in the journal, {} by the bot".format(*cash))
    return found + _fill_differences(outcome, events, told)


def _fill_differences(outcome: RunOutcome, events: Sequence[Event], told: Sequence[Fill]) -> list[str]:
    booked = [fill for event in events if (fill := records.fill_of(event.cid or "", event.payload)) is not None]
    theirs, ours = _sums(told), _sums(booked)
    found = [
        f"FILL: {cid}: {theirs[cid]} at the venue, {ours[cid]} in the journal, as quantity and amount"
        for cid in sorted({*theirs, *ours})
        if theirs[cid][0] != ours[cid][0] or abs(theirs[cid][1] - ours[cid][1]) >= _CENT
    ]
    traded = sum((one.pnl + one.fees for one in outcome.summary.trades), Decimal(0))
    gained = -sum((amount for _, amount in theirs.values()), Decimal(0))
    if not outcome.open and abs(traded - gained) >= _CENT:
        found.append(f"TRADES: fills at the venue gained {gained}, and the trades of the bot {traded}")
    return found


def _sums(fills: Sequence[Fill]) -> defaultdict[str, tuple[Decimal, Decimal]]:
    # What each order has filled: the quantity, and the amount that was paid for it, negative where it was sold.
    found = defaultdict[str, tuple[Decimal, Decimal]](lambda: (Decimal(0), Decimal(0)))
    for fill in fills:
        quantity, amount = found[fill.client_order_id]
        signed = fill.quantity if fill.buy else -fill.quantity
        found[fill.client_order_id] = quantity + fill.quantity, amount + signed * fill.price
    return found


async def _live(day: BrokerDay, market: RecordedMarket, terms: SessionTerms, faults: Counter[str]) -> RunOutcome | str:
    day = attrs.evolve(day, watcher=RunWatcher(on_events=market.on_events))
    chances = RandomStreams(terms.seed or 0)
    return await live_with_faults(day, chances.stream("faults"), faults, 0.0 if terms.seed is None else _OFTEN)


def _subscribed(home: Path, day: dt.date) -> tuple[str, ...]:
    # The symbols that the live run had received bars of: the feed's limit may have left some out.
    path = received_files.recorded_file(Instance.at(home).data / received_files.FOLDER, day)
    return () if path is None else received_bars.read_recording(path).symbols


def _replay(home: Path, day: dt.date, bars: Path, venue: BrokerCapabilities, clock: Clock) -> SessionRecord:
    # Orders are made by the capabilities of the venue; the rest are those of the simulator, which fills them. The
    # symbols are those that the live run subscribed.
    simulated = attrs.evolve(
        SIMULATOR_CAPABILITIES,
        brackets=venue.brackets,
        both_sides=venue.both_sides,
        replace=venue.replace,
        quantity_step=venue.quantity_step,
        fractional_types=venue.fractional_types,
        day_trade_rules=venue.day_trade_rules,
    )
    assembly = attrs.evolve(assemble(home, "replay", clock), decides_as_at=simulated)
    request = FeedRequest(
        kind="replay",
        first=day,
        last=day,
        symbols=_subscribed(home, day) or assembly.settings.trading.universe,
        bars=bars,
        calendar=assembly.calendar,
        extra_facts=assembly.extra_facts,
    )
    outcome = asyncio.run(run(RunPlan(assembly=assembly, request=request, wall=clock), RunWatcher()))
    return SessionRecord(events=_events(outcome.journal), trades=outcome.summary.trades)


def _store(assembly: Assembly) -> BarStore:
    return BarStore(folder=assembly.settings.instance.bars, calendar=assembly.calendar)


def _market(assembly: Assembly, day: dt.date, terms: SessionTerms) -> RecordedMarket:
    session, store = assembly.calendar.session(day), _store(assembly)
    if session is None:
        raise UsageError(f"The exchange is closed on {day}.", "`tbot calendar` lists the sessions.")
    settings = assembly.settings
    costs = FillCosts.of(settings.simulation, settings.exits.target_fill)
    chosen = settings.trading.universe
    symbols = tuple(one for one in store.symbols(day, day) if not chosen or one in chosen)
    account = VenueTerms(costs=costs, cash=settings.simulation.paper_cash, half_spread=terms.half_spread)
    return RecordedMarket.read(store, session, symbols, account, assembly.extra_facts.daily_bars)


def _settle(home: Path, scratch: Path, changes: dict[str, str]) -> None:
    # The settings of the instance, with what both runs need.
    sources = configuration.read_settings_files(Instance.at(home), live=False)
    changes = {**_COMMON, **alert_settings(discovery.installed_plugins()), **changes}
    for name, one in ((".env", sources.env), (".env_bot", sources.bot)):
        kept = [(entry.key, entry.value) for entry in one.parsed.entries if entry.key not in changes]
        lines = [*kept, *(changes.items() if name == ".env_bot" else ())]
        filesystem.write_atomic(scratch / name, "".join(f"{key}={value}\n" for key, value in lines).encode())


def _copy_facts(source: Path, target: Path) -> None:
    # The VIX and capitalisations.
    filesystem.make_folder(target)
    for table in manifest.read_facts(source):
        reference.write_table(target, table, reference.read_table(source, table))


def _events(path: Path) -> tuple[Event, ...]:
    with closing(read_journal(path)) as journal:
        return tuple(journal.events())
