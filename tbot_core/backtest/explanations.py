"""The comparisons in any minute of a recorded session, recomputed from the same bars."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from tbot_core.contracts import BrokerCapabilities, FeedRequest, FeedSession, SupportsRefresh
from tbot_core.contracts.feed import ExtraFacts
from tbot_core.engine.assembly import SIMULATOR, Assembly, feed_source
from tbot_core.errors import DataError, UsageError
from tbot_core.journal.projections.vix import RecordedVix, with_recorded_vix
from tbot_core.marketdata.received_bars import RecordedSession, RecordingHeader
from tbot_core.marketdata.store.recorded_facts import MARKET_CAP
from tbot_core.model.bars import Bars, SymbolQuote, Tape
from tbot_core.model.calendar import Session
from tbot_core.model.day_facts import DayFacts, MarketView
from tbot_core.model.reasons import REASON_BY_CODE, Reason
from tbot_core.model.signals import ExitRules, Signals
from tbot_core.model.window import Window
from tbot_core.trading.near_misses import NearMiss, TriggerComparison, find_near_misses, trigger_comparisons
from tbot_core.trading.proposals import ActiveStrategy, TradingRules, judge, screen, universe_cut
from tbot_core.trading.universe import left_out_symbols
from tbot_core.trading.verdicts import CheckResult, Verdicts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


_NO_BARS: Final = "The universe of the session left it out: it has no bars, so no minute of it can be compared."


@attrs.frozen(kw_only=True)
class StrategyExplanation:
    """One strategy in one minute: its comparisons, and the filters' result for a signal in that minute.

    `verdict` is the filters' reason for the side that fired, else for a long; None if the minute has no bar.
    """

    strategy: str
    comparisons: tuple[TriggerComparison, ...]
    findings: tuple[CheckResult, ...]
    verdict: Reason | None


@attrs.frozen(kw_only=True)
class MinuteExplanation:
    """One closed minute of a symbol: its bar (None without trades) and each strategy's part.

    `quote` is the quote used for the decision; None if none was used or known.
    """

    minute: int
    bar: Mapping[str, float] | None
    parts: tuple[StrategyExplanation, ...]
    quote: SymbolQuote | None = None


@attrs.frozen(kw_only=True)
class ScreeningExplanation:
    """The screening of a symbol for one strategy before the open, and its near miss."""

    strategy: str
    window: Window
    reason: Reason
    findings: tuple[CheckResult, ...]
    near: NearMiss | None


@attrs.frozen(kw_only=True)
class SessionExplanation:
    """A symbol's session: screening by strategy, and the requested minutes; `note` says what cannot be compared.

    `subscribed` is false for a symbol that a limit left out: it has no bars, so that no minute can be compared.
    """

    session: Session
    screenings: tuple[ScreeningExplanation, ...]
    moments: tuple[MinuteExplanation, ...]
    subscribed: bool = True
    note: str = ""


def request_of(document: Mapping[str, Any], day: date, assembly: Assembly) -> FeedRequest:
    """The feed request recorded in a run's journal, for that day's session."""

    def parsed(text: str | None) -> date | None:
        return None if text is None else date.fromisoformat(text)

    live = document["kind"] == "live"
    return FeedRequest(
        kind=document["kind"],
        first=day if live else parsed(document["first"]),
        last=parsed(document["last"]),
        symbols=tuple(document["symbols"]),
        sessions=1 if live else document["sessions"],
        seed=document["seed"],
        bars=assembly.settings.instance.bars,
        calendar=assembly.calendar,
        extra_facts=ExtraFacts(typical_volume=document["typical_volume"], daily_bars=document.get("daily_bars", 0)),
    )


async def explain_session(
    assembly: Assembly, request: FeedRequest, day: date, symbol: str, minutes: Sequence[int]
) -> SessionExplanation:
    """Recompute the comparisons of these minutes in the stored session of a day.

    Raises DataError if the bars are no longer stored, UsageError for a symbol that the session does not have.
    """
    broker = assembly.broker()
    source = await _session(feed_source(broker, SIMULATOR).feed(request).sessions(), day)
    _check_symbol(symbol, source)
    return await _walk(
        assembly, assembly.rules(broker.capabilities), source, symbol, sorted(set(minutes)), assembly.recorded_vix
    )


async def explain_received(
    assembly: Assembly, found: RecordedSession, symbol: str, minutes: Sequence[int], vix: RecordedVix
) -> SessionExplanation:
    """Recompute the comparisons from received bars; of a symbol that a limit left out only those before the open.

    `vix` is the VIX recorded in the journal. Raises UsageError for a symbol that the session did not subscribe.
    """
    rules = assembly.rules(BrokerCapabilities()).watching(found.header.watch_only)
    reason = _left_out(found, symbol)
    if reason is not None:
        entrants = assembly.entrants(found.session)
        screenings = tuple(_unseen(entrant, rules, found.header, symbol, reason) for entrant in entrants)
        note = " ".join((_NO_BARS, *_missing_facts(rules, found.header.left_out_day)))
        return SessionExplanation(session=found.session, screenings=screenings, moments=(), subscribed=False, note=note)
    _check_symbol(symbol, found)
    explained = await _walk(assembly, rules, found, symbol, sorted(set(minutes)), vix)
    return attrs.evolve(explained, note=" ".join(_missing_facts(rules, found.header.day)))


def _missing_facts(rules: TradingRules, day: DayFacts | None) -> Iterator[str]:
    # What the filters compare, and the recording does not hold.
    if day is None:
        yield "Facts of symbols that the universe left out were not recorded then: only the reason is known."
        return
    fetched = {fact for one in rules.filters.values() if isinstance(one, SupportsRefresh) for fact in one.facts}
    if missing := sorted(fetched - {MARKET_CAP, *day.recorded}):
        yield f"Not recorded then: {', '.join(missing)}. What filters fetch counts as unknown where it is missing."


def _check_symbol(symbol: str, source: FeedSession) -> None:
    if symbol not in source.symbols:
        raise UsageError(
            f"{symbol} is not among the {len(source.symbols)} symbols of {source.session.date}.",
            f"The first ones are {', '.join(source.symbols[:5])}.",
        )


def _left_out(found: RecordedSession, symbol: str) -> Reason | None:
    # Why a symbol was not subscribed: the limit, or the filter that denied it before the limit; None if it was.
    if symbol in found.header.cut:
        return Reason.UNIVERSE_TRUNCATED
    names = (reason for reason, symbols in found.header.denied.items() if symbol in symbols)
    return next((Reason[name] for name in names), None)


def _unseen(
    entrant: ActiveStrategy, rules: TradingRules, header: RecordingHeader, symbol: str, reason: Reason
) -> ScreeningExplanation:
    # The screening that left a symbol out, by the facts of then; older recordings lack them.
    findings: tuple[CheckResult, ...] = ()
    if header.left_out_day is not None:
        row = left_out_symbols(header.cut, header.denied).index(symbol)
        day, minutes = header.left_out_day.symbols([row]), header.session.minutes
        verdicts = screen(entrant, rules, day, (symbol,), minutes, likely=True)
        findings = tuple(verdicts.findings(0))
        reason = REASON_BY_CODE[int(verdicts.reasons[0])] or reason
    return ScreeningExplanation(
        strategy=entrant.name, window=entrant.window, reason=reason, findings=findings, near=None
    )


async def _session(sessions: Any, day: date) -> FeedSession:
    async for source in sessions:
        if source.session.date == day:
            found: FeedSession = source
            return found
    raise DataError(f"The bars of {day} are no longer stored.", "See `tbot data list`.")


async def _walk(  # noqa: PLR0913, PLR0917  a session and the requested part of it
    assembly: Assembly, rules: TradingRules, source: FeedSession, symbol: str, minutes: Sequence[int], vix: RecordedVix
) -> SessionExplanation:
    row, moments = source.symbols.index(symbol), []
    entrants = assembly.entrants(source.session)
    days = {
        entrant.name: with_recorded_vix(source.day, [source.session.date], entrant.name, vix) for entrant in entrants
    }
    tape = Tape(source.symbols, source.session.minutes)
    async for minute in source.minutes():
        tape.append(minute)
        if isinstance(source, RecordedSession) and (late := source.late(minute.index)):
            tape.amend((one.minute, one.row, one.values) for one in late)
        if minute.index in minutes:
            quotes = source.quotes(minute.index) if isinstance(source, RecordedSession) else None
            markets = (
                (entrant, MarketView(bars=tape.bars, day=days[entrant.name], quotes=quotes)) for entrant in entrants
            )
            parts = tuple(_part(one, rules, market, row) for one, market in markets)
            quote = None if quotes is None else quotes.of(row)
            moments.append(MinuteExplanation(minute=minute.index, bar=_bar(tape.bars, row), parts=parts, quote=quote))
    symbols, length = source.symbols, source.session.minutes
    cut, screenings = universe_cut(entrants, rules, source.day, symbols, length), []
    for one in entrants:
        verdicts = screen(one, rules, days[one.name], symbols, length, cut=cut)
        screenings.append(_screening(one, verdicts, MarketView(bars=tape.bars, day=days[one.name]), row))
    return SessionExplanation(session=source.session, screenings=tuple(screenings), moments=tuple(moments))


def _screening(entrant: ActiveStrategy, verdicts: Verdicts, market: MarketView, row: int) -> ScreeningExplanation:
    alone = np.arange(len(market.bars.symbols)) == row
    near = find_near_misses(entrant, market.bars, market.day, alone & (verdicts.reasons == Reason.ALLOWED))
    return ScreeningExplanation(
        strategy=entrant.name,
        window=entrant.window,
        reason=REASON_BY_CODE[int(verdicts.reasons[row])],
        findings=tuple(verdicts.findings(row)),
        near=near[0] if near else None,
    )


def _part(entrant: ActiveStrategy, rules: TradingRules, market: MarketView, row: int) -> StrategyExplanation:
    compared = tuple(trigger_comparisons(entrant, market.bars, market.day, row))
    side = next((one.side for one in compared if one.fires), 1)
    price = float(market.bars.field("close")[-1, row])
    if not compared or np.isnan(price):
        return StrategyExplanation(strategy=entrant.name, comparisons=compared, findings=(), verdict=None)
    verdicts = judge(entrant, rules, _signal(row, market.bars.minutes - 1, side, price), market)
    verdict = REASON_BY_CODE[int(verdicts.reasons[0])]
    return StrategyExplanation(
        strategy=entrant.name, comparisons=compared, findings=tuple(verdicts.findings(0)), verdict=verdict
    )


def _signal(row: int, minute: int, side: int, price: float) -> Signals:
    # A signal in that minute, as input for the filters.
    one = np.array([0], dtype=np.intp)
    unknown = np.array([np.nan])
    return Signals(
        cells=(np.array([row], dtype=np.intp),),
        minute=one + minute,
        side=one + side,
        price=np.array([price]),
        strength=np.zeros(1),
        stop=unknown,
        target=unknown,
        rule=one,
        rules=("asked",),
        exits=ExitRules(),
    )


def _bar(bars: Bars, row: int) -> Mapping[str, float] | None:
    found = {name: float(bars.field(name)[-1, row]) for name in ("open", "high", "low", "close", "volume")}
    return None if np.isnan(found["close"]) else found
