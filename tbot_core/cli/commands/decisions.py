"""`tbot why`, `screen` and `drift`: decisions explained, before the bell, of a session, and beside a shadow run."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from tbot_core.cli.options import BoundedInt, emit, home_option, json_option, print_notice
from tbot_core.cli.tables import wrap_sentence
from tbot_core.errors import UsageError
from tbot_core.model.dates import parse_symbol
from tbot_core.model.formatting import plural
from tbot_core.model.reasons import Reason
from tbot_core.system import garbage, terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tbot_core.engine.screening import ScreenedSymbols
    from tbot_core.instance import Instance
    from tbot_core.status.why_text import WhySection

_bold = partial(click.style, bold=True)
_SHOWN: Final = 40
_MILLION: Final = 1_000_000
_MOST_SESSIONS: Final = 1000


@click.command("why")
@click.argument("symbol", required=False)
@click.option("--at", metavar="TIME", help="The minute that ends then: HH:MM New York, or ISO 8601.")
@click.option("--date", metavar="DATE", help="The session. Default: the last one with a decision on the symbol.")
@click.option("--run", metavar="ID", help="The run, by a prefix of its id, or `paper`. Default: the newest.")
@home_option
@json_option
def why_command(symbol: str | None, *, home: Path | None, as_json: bool, **options: str | None) -> None:
    """Explain every decision on SYMBOL: each comparison with its value, its limit and its result.

    With --at any minute is recomputed from recorded bars, with or without a decision. Without SYMBOL it explains a
    session: what the window of each strategy did, and why there was no trade, or not more.
    """
    if symbol is None:
        at = options.pop("at")
        if at is not None:
            raise UsageError("--at needs a symbol.", f"Write `tbot why SYMBOL --at {at}`.")
        with garbage.kept_start():
            from tbot_core.status import day_decisions, why_text

            day = day_decisions.day_decisions(home, **options)
        emit(day, as_json=as_json, lines=why_lines(why_text.day_sections(day), terminal.columns()))
        return
    with garbage.kept_start():
        from tbot_core.status import why, why_text

        shown = why.why_document(parse_symbol(symbol), home, **options)
    emit(shown, as_json=as_json, lines=why_lines(why_text.why_sections(shown, _bold), terminal.columns()))


def why_lines(sections: Iterable[WhySection], width: int | None = None) -> Iterator[str]:
    """The whole answer as text; its longest sentences on a terminal of that width (None: no terminal)."""
    for at, section in enumerate(sections):
        if at:
            yield ""
        if section.title:
            yield _bold(section.title)
        for note in section.notes:
            yield from wrap_sentence(note, width)
        yield from section.lines


@click.command("screen")
@click.option("--strategy", metavar="NAME", help="Only this strategy. Default: all that are enabled.")
@click.option("--all", "everything", is_flag=True, help="List every symbol, with those that do not pass.")
@home_option
@json_option
def screen_command(*, strategy: str | None, everything: bool, home: Path | None, as_json: bool) -> None:
    """Screen the symbols for the next session: who passes before the bell, and why others do not.

    The symbols are those of UNIVERSE, else all of the data source. Daily bars are read from it; no order is sent.
    """
    from tbot_core.instance.sources import find_instance

    found = _screened(find_instance(home))
    names = tuple(found.reasons)
    if strategy is not None:
        if strategy.lower() not in names:
            raise UsageError(f"--strategy {strategy}: not enabled.", f"Enabled: {', '.join(names) or 'none'}.")
        names = (strategy.lower(),)
    emit(screen_document(found, names), as_json=as_json, lines=screen_lines(found, names, everything=everything))


def _screened(instance: Instance) -> ScreenedSymbols:
    # Screen the symbols of the instance's data source.
    import asyncio

    from tbot_core.actions.assembly import assemble_action
    from tbot_core.engine.assembly import DRY_RUN
    from tbot_core.engine.screening import screen_symbols

    assembly = assemble_action(instance.home, DRY_RUN, notify=print_notice)
    trading = assembly.settings.trading
    source = trading.data_source or trading.broker_name
    return asyncio.run(assembly.closing(screen_symbols(assembly, source)))


def screen_document(found: ScreenedSymbols, names: tuple[str, ...]) -> dict[str, Any]:
    """The result for JSON: every symbol with its facts and the reason of each strategy, null where it passes.

    `left_out` is the reason why it would not be subscribed, null where it would be.
    """
    outside = left_out(found)
    rows = [
        {
            **facts,
            "left_out": outside.get(facts["symbol"]),
            "reasons": {name: None if (one := found.reasons[name][row]) is None else one.name for name in names},
        }
        for row, facts in enumerate(_facts(found))
    ]
    universe = found.universe
    return {
        "source": found.source,
        "session": found.session.date,
        "symbols": rows,
        "passed": {name: list(found.passed(name)) for name in names},
        "universe": None if universe.counts is None else attrs.asdict(universe.counts),
        "limit": universe.limit or None,
        "limited_by": universe.limited_by,
        "cut": list(universe.cut),
        "unknown": list(found.unknown),
    }


def screen_lines(found: ScreenedSymbols, names: tuple[str, ...], *, everything: bool) -> Iterator[str]:
    """The result as text: a line for each strategy, what the limit leaves out, then the symbols."""
    counts = found.universe.counts
    yield f"Session {found.session.date}: {plural(len(found.symbols), 'symbol')} of {found.source}."
    if found.unknown:
        yield f"UNIVERSE has symbols that {found.source} does not offer: {', '.join(found.unknown)}."
    for name in names:
        denied = Counter(one.name for one in found.reasons[name] if one is not None)
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in denied.most_common())
        passed = plural(len(found.passed(name)), "symbol passes", "symbols pass")
        yield f"[{name.upper()}] {passed}{f'; symbols denied: {reasons}' if reasons else ''}"
    if counts is not None:
        yield f"A session has {counts.text}."
    outside = left_out(found)
    rows = [row for row in range(len(found.symbols)) if everything or any(_passes(found, names, row))]
    ranked = sorted(rows, key=lambda row: (found.symbols[row] in outside, -_dollars(found, row)))
    shown = rows if everything else ranked[:_SHOWN]
    if not shown:
        return
    heads = "".join(f"  {name:<16}" for name in names)
    last = "  subscribed" if outside else ""
    yield f"\n{'symbol':<8}{'close':>10}{'volume (mean)':>16}{'market cap':>14}{heads}{last}".rstrip()
    facts = list(_facts(found))
    for row in shown:
        mark = outside.get(found.symbols[row], "yes") if outside else ""
        yield _row(facts[row], [found.reasons[name][row] for name in names], mark)
    if len(rows) > len(shown):
        yield f"and {len(rows) - len(shown):,} more that pass; --all lists every symbol."


def left_out(found: ScreenedSymbols) -> dict[str, str]:
    """Each symbol that a limit leaves out, with the reason."""
    reasons = {Reason.UNIVERSE_TRUNCATED.name: found.universe.cut, **found.universe.denied}
    return {symbol: reason for reason, symbols in reasons.items() for symbol in symbols}


def _row(facts: dict[str, Any], reasons: list[Any], mark: str) -> str:
    close = "-" if facts["close"] is None else f"{facts['close']:,.2f}"
    volume = "-" if facts["mean_volume"] is None else f"{facts['mean_volume']:,.0f}"
    cap = "-" if facts["market_cap"] is None else f"{facts['market_cap'] / _MILLION:,.0f} M"
    words = "".join(f"  {'passes' if reason is None else reason.name:<16}" for reason in reasons)
    return f"{facts['symbol']:<8}{close:>10}{volume:>16}{cap:>14}{words}  {mark}".rstrip()


def _passes(found: ScreenedSymbols, names: tuple[str, ...], row: int) -> Iterator[bool]:
    return (found.reasons[name][row] is None for name in names)


def _dollars(found: ScreenedSymbols, row: int) -> float:
    dollars = float(found.day.average_volume[row]) * float(found.day.previous_close[row])
    return -1.0 if math.isnan(dollars) else dollars


def _facts(found: ScreenedSymbols) -> Iterator[dict[str, Any]]:
    day = found.day
    columns = (day.previous_close.tolist(), day.average_volume.tolist(), day.market_cap.tolist())
    for symbol, *values in zip(found.symbols, *columns, strict=True):
        close, volume, cap = (None if math.isnan(value) else value for value in values)
        yield {"symbol": symbol, "close": close, "mean_volume": volume, "market_cap": cap}


@click.command("drift")
@click.argument("date", required=False, metavar="[DATE]")
@click.option("--last", type=BoundedInt(1, _MOST_SESSIONS), metavar="N", help="The last N sessions that ended.")
@click.option(
    "--run",
    metavar="ID",
    help="The run, by a prefix of its id. Default: paper and live trading; in a rehearsal its own.",
)
@home_option
@json_option
def drift_command(date: str | None, last: int | None, run: str | None, *, home: Path | None, as_json: bool) -> int:
    """Compare the trades of a session with a shadow run: the same decisions on the bars and quotes that it received.

    The shadow run fills by simulation. Each expected and real trade is listed, with the distance of the prices in basis
    points and the cause of a trade that is missing or was not expected. DATE: the session; default: the last one.
    Exits with 1 if a session cannot be compared.
    """
    if date is not None and last is not None:
        raise UsageError("Give DATE or --last, not both.", "`tbot drift --last 5` compares the last five sessions.")
    from tbot_core.reports.drift import drift_lines
    from tbot_core.status.drift import drift_of, drift_of_last

    found = drift_of(home, date, run) if last is None else drift_of_last(home, last, run)
    emit(found, as_json=as_json, lines=drift_lines(found))
    return int(any("fault" in session for session in found.get("sessions", ())))
