"""How far a backtest's result can be trusted: harder assumptions, the first and last minutes, and its data."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from tbot_core.model.formatting import format_percent, money_text, plural
from tbot_core.reports.figures import TradingDay, daily_returns, sharpe_ratio
from tbot_core.trading.slippage import Slippage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.model.types import Trade

_EDGE_MINUTES: Final = 5
"""The first and the last minutes of a session, of whose trades the P&L is stated apart."""

_ENOUGH_TRADES: Final = 100
"""With fewer trades a warning says that they are few."""

_BELIEVABLE_SHARPE: Final = 5.0
_ENOUGH_SESSIONS: Final = 20
"""A Sharpe ratio above that bound, over so many sessions or more, is not believed."""

MOST_DAYS: Final = (1, 7, 30, 90, 365)
"""The ages of facts by which a backtest counts its decisions, in days."""

Chosen: TypeAlias = Literal["--symbols", "UNIVERSE", "stored"]
"""What chose the symbols: the caller, the setting, or the bar store, which has no other ones."""

_ZERO: Final = Decimal(0)
_LEAST_SHARE: Final = Decimal("0.01")
_HALF: Final = Decimal("0.5")
_UNIVERSES: Final[Mapping[Chosen, tuple[str, str]]] = {
    "--symbols": ("The {} that was named.", "The {} that were named."),
    "UNIVERSE": ("The {} of UNIVERSE.", "The {} of UNIVERSE."),
    "stored": ("The only {} with stored bars.", "All {} with stored bars."),
}
_SURVIVORS: Final = "Delisted symbols are missing unless you added them: survivorship bias makes a result look better."
_EDGES: Final = (
    f"Net P&L of trades whose entry filled in the first {_EDGE_MINUTES} minutes of a session, or whose exit filled in "
    f"its last {_EDGE_MINUTES} or at its close; a trade may count in both."
)
_DATED: Final = "A session uses what was known before its open; an imported figure counts from the day after its as_of."
_LOOK_AHEAD: Final = (
    "Not checked by a backtest. `tbot backtest --check-lookahead` over the same days finds strategies and filters that "
    "use bars of the future."
)
_NO_SLIPPAGE: Final = (
    "None is simulated: twice of it changes nothing. ENABLE_SLIPPAGE_MODEL and SLIPPAGE_SIMULATION_TYPE switch it on."
)


@attrs.frozen(kw_only=True)
class Variant:
    """The result of the same backtest under a harder assumption, which `words` name; money in dollars.

    `costs_only`: it has more slippage, which changes nothing where none is simulated.
    """

    words: str
    trades: int
    pnl: Decimal
    costs_only: bool = False


@attrs.frozen(kw_only=True)
class UnknownFacts:
    """The signals that FILTER_MISSING_DATA let pass, by the reason that would have denied them.

    A signal counts for each reason. `first_known`: the first session in which each fact was known; None without one.
    """

    signals: Mapping[str, int]
    first_known: date | None

    @property
    def sentence(self) -> str:
        """The same in one sentence."""
        counts = ", ".join(f"{name} {count:,}" for name, count in sorted(self.signals.items()))
        first = f"{self.first_known} is the first session" if self.first_known else "there is no session"
        passed = f"FILTER_MISSING_DATA=pass let signals pass without a known fact ({counts})"
        return f"{passed}; {first} with all facts known."


@attrs.frozen(kw_only=True)
class FactUse:
    """A fact about symbols that filters used: from which day on it is known of which symbols, and its ages.

    `ages`: for so many symbols x sessions it was known for at most each of MOST_DAYS, for longer, and not at all.
    """

    first_days: Mapping[str, date]
    ages: Sequence[int] = (0,) * (len(MOST_DAYS) + 2)

    @property
    def sentence(self) -> str:
        """The ages in one sentence; those that never occurred are left out."""
        bounds = [f"at most {plural(days, 'day')}" for days in MOST_DAYS]
        names = (*bounds, f"more than {plural(MOST_DAYS[-1], 'day')}", "unknown")
        counts = ", ".join(f"{name} {count:,}" for name, count in zip(names, self.ages, strict=True) if count)
        return f"Its age in {sum(self.ages):,} decisions (symbols x sessions): {counts}."


@attrs.frozen(kw_only=True)
class Reliability:
    """What a backtest knows about its own result.

    `days`: each session with its equity, in order. `facts`: those about symbols that filters used, by name. `unknown`:
    what passed without a fact, None if nothing did. `kinds`: the pairs of adjustment and volume of the bars; `notes`
    say what follows from them.
    """

    variants: Sequence[Variant]
    slippage: Slippage
    days: Sequence[TradingDay]
    chosen: Chosen
    symbols: int
    facts: Mapping[str, FactUse]
    kinds: Sequence[tuple[str, str]]
    notes: Sequence[str] = ()
    unknown: UnknownFacts | None = None


@attrs.frozen(kw_only=True)
class ResultRow:
    """A line of the comparison.

    `share` is its part of the backtest's P&L; None where that is a loss, or less than a hundredth of the profits and
    losses of all trades taken together, and of twice the slippage where none is simulated.
    """

    words: str
    trades: int
    pnl: Decimal
    share: Decimal | None

    @property
    def percent(self) -> str:
        """The share as a percentage, "" without one."""
        return "" if self.share is None else format_percent(self.share, 0)


@attrs.frozen(kw_only=True)
class ReliabilityReport:
    """The same for readers: a headline, warnings, the compared results, and facts with their titles.

    `distrust`: the headline or a warning says that the result is not to be relied on.
    """

    headline: str
    distrust: bool
    warnings: Sequence[str]
    rows: Sequence[ResultRow]
    facts: Sequence[tuple[str, str]]


def reliability_report(known: Reliability, trades: Sequence[Trade], pnl: Decimal) -> ReliabilityReport:
    """Compare and judge the trades and the P&L of a backtest."""
    rows = list(_rows(known, trades, pnl))
    facts = list(_facts(known))
    if not trades or pnl <= 0:
        headline = "The backtest made no profit." if trades else "No trade: there is nothing to judge."
        return ReliabilityReport(headline=headline, distrust=False, warnings=(), rows=rows, facts=facts)
    faults = list(_faults(known, rows))
    first = f"Distrust this result: {faults[0]}." if faults else _left(known, rows)
    warnings = [*(f"{fault[0].upper()}{fault[1:]}." for fault in faults[1:]), *_warnings(known, rows)]
    return ReliabilityReport(
        headline=first, distrust=bool(faults or warnings), warnings=warnings, rows=rows, facts=facts
    )


def reliability_document(known: Reliability, report: ReliabilityReport) -> dict[str, Any]:
    """The report for JSON; shares as strings, 0.0153 for 1.53 %."""
    return {
        "distrust": report.distrust,
        "headline": report.headline,
        "warnings": list(report.warnings),
        "results": [
            {
                "result": row.words,
                "trades": row.trades,
                "pnl": money_text(row.pnl),
                "share": None if row.share is None else f"{row.share:.4f}",
            }
            for row in report.rows
        ],
        "slippage": known.slippage.kind,
        "universe": {"chosen_by": known.chosen, "symbols": known.symbols},
        "facts": {
            name: {
                "symbols": len(used.first_days),
                "first": min(used.first_days.values()).isoformat() if used.first_days else None,
                "ages": dict(zip((*map(str, MOST_DAYS), "older", "unknown"), used.ages, strict=True)),
            }
            for name, used in sorted(known.facts.items())
        },
        "unknown_facts": known.unknown
        and {
            "signals": dict(sorted(known.unknown.signals.items())),
            "first_known": known.unknown.first_known and known.unknown.first_known.isoformat(),
        },
        "adjustments": sorted({adjustment for adjustment, _ in known.kinds}),
        "volumes": sorted({volume for _, volume in known.kinds}),
    }


def _rows(known: Reliability, trades: Sequence[Trade], pnl: Decimal) -> Iterator[ResultRow]:
    # The backtest, its variants, and its trades in the first and in the last minutes of a session.
    opens, closes = [day.open for day in known.days], [day.close for day in known.days]
    edge = timedelta(minutes=_EDGE_MINUTES)
    early = [trade for trade in trades if trade.entry_time < opens[bisect_right(opens, trade.entry_time) - 1] + edge]
    late = [trade for trade in trades if trade.exit_time >= closes[bisect_right(opens, trade.exit_time) - 1] - edge]
    untested = {variant.words for variant in known.variants if variant.costs_only and not _slips(known.slippage)}
    least = _LEAST_SHARE * sum((abs(trade.pnl) for trade in trades), _ZERO)
    for words, count, part in (
        ("this backtest", len(trades), pnl),
        *((variant.words, variant.trades, variant.pnl) for variant in known.variants),
        (f"entered in the first {_EDGE_MINUTES} minutes", len(early), _pnl(early)),
        (f"closed in the last {_EDGE_MINUTES} minutes", len(late), _pnl(late)),
    ):
        yield ResultRow(
            words=words, trades=count, pnl=part, share=part / pnl if pnl > least and words not in untested else None
        )


def _pnl(trades: Sequence[Trade]) -> Decimal:
    return sum((trade.pnl for trade in trades), _ZERO)


def _varied(known: Reliability, rows: Sequence[ResultRow]) -> list[ResultRow]:
    # The results under harder assumptions; without slippage one of the assumptions changes nothing.
    varied = zip(known.variants, rows[1:], strict=False)
    return [row for one, row in varied if _slips(known.slippage) or not one.costs_only]


def _faults(known: Reliability, rows: Sequence[ResultRow]) -> Iterator[str]:
    # Why a profit is not to be relied on, the gravest reason first.
    varied = _varied(known, rows)
    if lost := [one for one in varied if one.pnl <= 0]:
        yield f"no profit is left {_joined(lost)}"
    elif rows[0].share is None:
        yield "the profit is near zero"
    elif halved := [one for one in varied if one.share is not None and one.share < _HALF]:
        yield f"less than half of the profit is left {_joined(halved)}"
    if not _slips(known.slippage):
        yield "no slippage is simulated, and real fills cost more"
    sharpe = sharpe_ratio(daily_returns(known.days))
    if sharpe is not None and sharpe > _BELIEVABLE_SHARPE and len(known.days) >= _ENOUGH_SESSIONS:
        yield (
            f"a Sharpe ratio of {sharpe:.1f} is too good to be true; a strategy that uses bars of the future has such a"
            " result, and `--check-lookahead` finds it"
        )


def _left(known: Reliability, rows: Sequence[ResultRow]) -> str:
    first, *others = _varied(known, rows)
    more = "".join(f", {other.percent} {other.words}" for other in others)
    return f"{first.percent} of the profit is left {first.words}{more}."


def _joined(rows: Sequence[ResultRow]) -> str:
    return " and ".join(row.words for row in rows)


def _warnings(known: Reliability, rows: Sequence[ResultRow]) -> Iterator[str]:
    if rows[0].trades < _ENOUGH_TRADES:
        yield f"{plural(rows[0].trades, 'trade is', 'trades are')} few: the result may be chance."
    for row in rows[1 + len(known.variants) :]:
        if row.share is not None and row.share > _HALF:
            yield f"More than half of the profit is from trades {row.words}, where fills are least certain."


def _facts(known: Reliability) -> Iterator[tuple[str, str]]:
    yield "Look-ahead", _LOOK_AHEAD
    yield "Minutes", _EDGES
    yield "Slippage", _slippage_words(known.slippage)
    one, many = _UNIVERSES[known.chosen]
    chosen = (one if known.symbols == 1 else many).format(plural(known.symbols, "symbol"))
    yield "Universe", f"{chosen} {_SURVIVORS}"
    yield "Fundamentals", _fundamentals_words(known)
    if known.unknown:
        yield "Unknown facts", known.unknown.sentence
    adjustments, volumes = (", ".join(sorted(set(column))) for column in zip(*known.kinds, strict=True))
    yield "Bars", " ".join((f"Prices {adjustments}; volumes {volumes}.", *known.notes))


def _slips(model: Slippage) -> bool:
    return model.kind != "none" and bool(model.mean or model.deviation)


def _slippage_words(model: Slippage) -> str:
    if not _slips(model):
        return _NO_SLIPPAGE
    deviation = f", deviation {format_percent(model.deviation)}" if model.kind == "randomized" else ""
    mean = format_percent(model.mean)
    return f"{model.kind.capitalize()}, mean {mean}{deviation} of the price; limit prices do not slip."


def _fundamentals_words(known: Reliability) -> str:
    if not known.facts:
        return "No filter used any."
    sentences = []
    for name, used in sorted(known.facts.items()):
        if days := used.first_days:
            count = f"{len(days):,} of {plural(known.symbols, 'symbol')}"
            sentences.append(f"{name}: of {count}, from {min(days.values())} on at the earliest; unknown before.")
            sentences.append(used.sentence)
        else:
            sentences.append(f"{name}: nothing is stored, so it was unknown in every session.")
    return " ".join((*sentences, _DATED))
