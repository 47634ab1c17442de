"""A recorded session traded by a broker plugin at its own venue, and the same session replayed under its capabilities.

Both have the settings of an instance and the bars of its store. The live run reads everything over real connections of
this machine: the past sessions, the minutes, the quotes, the account, and what becomes of its orders. Decisions,
orders, fills and trades are compared: each difference has a cause, or none, and then one of the two is wrong.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core import instance as configuration
from tbot_core.contracts import AccountSnapshot, BrokerCapabilities, BrokerEventKind, FeedRequest, OrderStatus, Plugin
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
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Fill, Leg, Side, SignalId, Trade, dollars_of, quantity_of
from tbot_core.plugins import discovery
from tbot_core.rehearsal.broker_rehearsal import (
    BrokerDay,
    addresses,
    alert_settings,
    live_with_faults,
    open_day,
    sent_twice,
    venue_summary,
)
from tbot_core.rehearsal.random_streams import RandomStreams
from tbot_core.rehearsal.recorded_market import RecordedMarket, VenueTerms
from tbot_core.system import filesystem
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.engine.assembly import Assembly
    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock

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

Row = dict[str, str]

_PRICED: Final = {"limit": "", "quantity": ""}

_SIZED: Final = frozenset({Reason.SPREAD_WIDE, *(one for one in Reason if 60 <= one < 70)})

_COUNTED: Final = frozenset(one for one in Reason if 60 <= one < 100)


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
        unexplained = [difference.sentence for difference in self.differences if difference.cause is Cause.NONE]
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
            "differences": [difference.sentence for difference in self.differences],
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
            *(f"  {difference.sentence}" for difference in self.differences),
            agreed,
            *(f"  {words}" for words in self.disagreements),
            *self.venue,
        ]


class Cause(StrEnum):
    """Why a decision, order, fill or trade at the venue differs from the replay's; `NONE`: not known."""

    SPREAD = "the entry is priced at the far side of the quote, the replay's at the last close"
    REFUSED = "the venue refused an order that a simulator takes"
    SIGNAL = "an order, fill or trade of a signal that differs above"
    HOLDINGS = "a limit counts what is held, which differs above"
    NONE = "no cause is known"


class Kind(IntEnum):
    """What is compared; of one minute in this order."""

    DECISION = 0
    ORDER = 1
    FILL = 2
    TRADE = 3


@attrs.frozen(order=True)
class Place:
    """Where a row stands: the signal's minute, what it is, and which; the second stop of a signal has the number 2."""

    minute: int
    kind: Kind
    strategy: str
    symbol: str
    leg: str = ""
    number: int = 0

    @property
    def text(self) -> str:
        """The place as text."""
        leg = f" {self.leg}" if self.leg else ""
        return f"{self.kind.name.lower()} [{self.strategy.upper()}] {self.symbol} at minute {self.minute}{leg}"


@attrs.frozen(kw_only=True)
class Difference:
    """A row that differs: its fields at the venue and in the replay, None where it is absent there."""

    place: Place
    live: Row | None
    replay: Row | None
    cause: Cause

    @property
    def minute(self) -> int:
        """The minute in which it begins: that of the first fill, else that of the signal."""
        filled = [int(row["minute"]) for row in (self.live, self.replay) if row is not None and "minute" in row]
        return min(filled, default=self.place.minute)

    @property
    def changes_holdings(self) -> bool:
        """Whether limits count it: an entry is reserved from its decision on."""
        return self.place.kind in {Kind.DECISION, Kind.FILL} or self.place.leg == Leg.ENTRY.value

    @property
    def sentence(self) -> str:
        """The difference in a line."""
        names = sorted({*(self.live or ()), *(self.replay or ())})
        both = [(name, (self.live or {}).get(name), (self.replay or {}).get(name)) for name in names]
        if self.live is None or self.replay is None:
            there, row = ("at the venue", self.live) if self.replay is None else ("in the replay", self.replay)
            words = f"only {there}: {_text(row or {})}"
        else:
            words = ", ".join(f"{name} {one}, in the replay {other}" for name, one, other in both if one != other)
        return f"{self.place.text}: {words} ({self.cause.value})"


@attrs.frozen(kw_only=True)
class SessionRecord:
    """A traded session: its events and trades. Fees are left out, as a venue books them a day later."""

    events: Sequence[Event]
    trades: Sequence[Trade]

    def rows(self, session: Session) -> dict[Place, Row]:
        """All rows that are compared."""
        found: dict[Place, Row] = {}
        places: dict[str, Place] = {}
        count: Counter[tuple[SignalId, Leg]] = Counter()
        for event in self.events:
            if event.kind == records.INTENDED and event.cid is not None:
                order = records.order_of(event.cid, event.payload)
                count[order.signal, order.leg] += 1
                number = count[order.signal, order.leg]
                places[event.cid] = place = _place(order.signal, Kind.ORDER, order.leg.value, number)
                found[place] = {
                    "side": "buy" if order.buy else "sell",
                    "quantity": _plain(order.quantity),
                    "type": order.type.value,
                    "limit": _plain(order.limit_price),
                    "stop": _plain(order.stop_price),
                    "reason": str(order.reason or ""),
                }
            elif event.kind in {records.DECISION, records.TOP_UP}:
                signal = records.signal_of(event.payload["signal"])
                found[_place(signal, Kind.DECISION, "" if event.kind == records.DECISION else event.kind)] = {
                    name: str(event.payload[name]) for name in ("side", "reason", "price", "stop", "target")
                }
            elif (fill := records.fill_of(event.cid or "", event.payload)) is not None and event.cid in places:
                at = attrs.evolve(places[event.cid], kind=Kind.FILL)
                row = found.setdefault(at, {"minute": str(session.minute(fill.time)), "fills": ""})
                row["fills"] = f"{row['fills']} {_plain(fill.quantity)} @ {_plain(fill.price)}".strip()
        return found | self._trade_rows(session)

    def _trade_rows(self, session: Session) -> dict[Place, Row]:
        return {
            Place(session.minute(trade.entry_time), Kind.TRADE, trade.strategy, trade.symbol): {
                "side": trade.side.word,
                "quantity": _plain(trade.quantity),
                "entry": _plain(trade.entry_price),
                "exit": _plain(trade.exit_price),
                "left": str(session.minute(trade.exit_time)),
                "reason": trade.exit_reason.value,
                "gain": _plain(trade.pnl + trade.fees),
            }
            for trade in self.trades
        }

    @property
    def refused(self) -> frozenset[str]:
        """The symbols of orders that the venue refused to accept, or to change."""
        kinds = {BrokerEventKind.REJECTED, BrokerEventKind.CANCEL_REFUSED}
        refused = {event.cid for event in self.events if event.kind in kinds}
        orders = (event for event in self.events if event.kind == records.INTENDED and event.cid in refused)
        return frozenset(event.payload["signal"]["symbol"] for event in orders)


def recorded_days(home: Path, first: dt.date, last: dt.date, clock: Clock) -> tuple[dt.date, ...]:
    """The sessions of a range that an instance has bars of; raises DataError for none."""
    assembly = assemble(home, "replay", clock)
    store, symbols = _store(assembly), assembly.settings.trading.universe
    sessions = store.sessions(first, last, symbols or None)
    if not sessions:
        raise store.absence(first, last, symbols)
    return tuple(session.date for session in sessions)


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
        shorts = sum(trade.side is Side.SHORT for trade in trades)
        report = attrs.evolve(report, trades=len(trades), shorts=shorts, disagreements=problems)
        if terms.seed is not None:
            return report
        replayed = _replay(scratch, day, source.settings.instance.bars, at.venue.broker.capabilities, clock)
        live = SessionRecord(events=events, trades=trades)
        return attrs.evolve(report, differences=tuple(differences(live, replayed, market.session, terms.half_spread)))


def disagreements(
    outcome: RunOutcome, events: Sequence[Event], account: AccountSnapshot, venue_fills: Sequence[Fill]
) -> list[str]:
    """Where the venue's account, the journal and the bot differ in positions, cash and fills after the close.

    `venue_fills`: what the venue received. Cash is compared to the cent; the venue books no fees in the session.
    """
    closed = [event.payload for event in events if event.kind == records.SESSION_CLOSED]
    if len(closed) != 1:
        return [f"DAY: the session was closed {len(closed)} times"]
    book = fold_events(events).portfolio
    theirs = {holding.symbol: holding.quantity for holding in account.holdings if holding.quantity}
    ours = {
        symbol: sum((quantity_of(one.units) * one.side for one in book.in_symbol(symbol)), Decimal(0))
        for symbol in book.symbols
    }
    found = []
    if theirs != ours or {*outcome.open, *closed[0]["open"]} != theirs.keys():
        bots = sorted({*outcome.open, *closed[0]["open"]})
        found.append(f"HELD: {theirs} at the venue, {ours} in the journal, {bots} by the bot")
    found += [
        f"WORKING: {order.client_order_id} works at the venue after the close"
        for order in account.orders
        if order.kind is OrderStatus.WORKING
    ]
    cash = account.account.cash, dollars_of(book.cash_atoms), Decimal(closed[0]["cash"])
    if max(cash) - min(cash) >= _CENT:
        found.append("CASH: {} at the venue, {} in the journal, {} by the bot".format(*cash))
    return found + _fill_differences(outcome, events, venue_fills)


def differences(live: SessionRecord, replay: SessionRecord, session: Session, half_spread: Decimal) -> list[Difference]:
    """The rows that differ, in their order in the session, each with its cause."""
    theirs, ours = live.rows(session), replay.rows(session)
    found: list[Difference] = []
    for place in sorted({*theirs, *ours}):
        one, other = theirs.get(place), ours.get(place)
        if one != other:
            cause = _cause(place, (one, other), found, (half_spread, live.refused))
            found.append(Difference(place=place, live=one, replay=other, cause=cause))
    return found


def by_cause(found: Iterable[Difference]) -> dict[Cause, int]:
    """How many differences each cause has."""
    return dict(Counter(difference.cause for difference in found))


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


def _fill_differences(outcome: RunOutcome, events: Sequence[Event], venue_fills: Sequence[Fill]) -> list[str]:
    booked = [fill for event in events if (fill := records.fill_of(event.cid or "", event.payload)) is not None]
    theirs, ours = _sums(venue_fills), _sums(booked)
    found = [
        f"FILL: {cid}: {theirs[cid]} at the venue, {ours[cid]} in the journal, as quantity and amount"
        for cid in sorted({*theirs, *ours})
        if theirs[cid][0] != ours[cid][0] or abs(theirs[cid][1] - ours[cid][1]) >= _CENT
    ]
    traded = sum((trade.pnl + trade.fees for trade in outcome.summary.trades), Decimal(0))
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
    symbols = tuple(symbol for symbol in store.symbols(day, day) if not chosen or symbol in chosen)
    account = VenueTerms(costs=costs, cash=settings.simulation.paper_cash, half_spread=terms.half_spread)
    return RecordedMarket.read(store, session, symbols, account, assembly.extra_facts.daily_bars)


def _settle(home: Path, scratch: Path, changes: dict[str, str]) -> None:
    # The settings of the instance, with what both runs need.
    sources = configuration.read_settings_files(Instance.at(home), live=False)
    changes = {**_COMMON, **alert_settings(discovery.installed_plugins()), **changes}
    for name, file in ((".env", sources.env), (".env_bot", sources.bot)):
        kept = [(entry.key, entry.value) for entry in file.parsed.entries if entry.key not in changes]
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


def _cause(
    place: Place,
    rows: tuple[Row | None, Row | None],
    found: Sequence[Difference],
    venue: tuple[Decimal, frozenset[str]],
) -> Cause:
    # The cause of a difference; those found before it count, and what the venue quoted and refused.
    half_spread, refused = venue
    known = [difference for difference in found if difference.cause is not Cause.NONE]
    own = any(difference.place.symbol == place.symbol and _same_signal(difference.place, place) for difference in known)
    changes = place.kind is Kind.DECISION or place.leg == Leg.ENTRY.value
    if half_spread and changes and not own and _is_priced(place, *rows):
        return Cause.SPREAD
    if own:
        return Cause.SIGNAL
    if place.symbol in refused and place.kind is not Kind.DECISION:
        return Cause.REFUSED
    held = any(difference.changes_holdings and difference.minute <= place.minute for difference in known)
    return Cause.HOLDINGS if held and _counts_holdings(place, *rows) else Cause.NONE


def _same_signal(earlier: Place, place: Place) -> bool:
    return earlier.strategy == place.strategy and (earlier.minute == place.minute or place.kind is Kind.TRADE)


def _is_priced(place: Place, live: Row | None, replay: Row | None) -> bool:
    # Whether a decision or an entry follows from the price at which it is sized.
    if place.kind is Kind.DECISION:
        return any(_reason(row) in _SIZED for row in (live, replay))
    return live is not None and replay is not None and live | _PRICED == replay | _PRICED


def _counts_holdings(place: Place, live: Row | None, replay: Row | None) -> bool:
    if place.kind is not Kind.DECISION:
        return True
    return any((reason := _reason(row)) is not None and reason in _COUNTED for row in (live, replay))


def _reason(row: Row | None) -> Reason | None:
    return None if row is None else Reason[row["reason"]]


def _place(signal: SignalId, kind: Kind, leg: str = "", number: int = 0) -> Place:
    return Place(signal.minute, kind, signal.strategy, signal.symbol, leg, number)


def _plain(number: Decimal | None) -> str:
    return "" if number is None else f"{number.normalize():f}"


def _text(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.items() if value)
