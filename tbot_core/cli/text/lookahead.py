"""The look-ahead check as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.cli.text.tables import wrap_sentence
from tbot_core.model.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.engine.backtest.lookahead import LookaheadFinding, LookaheadReport

_MOST: Final = 10


def lookahead_lines(report: LookaheadReport, width: int | None) -> Iterator[str]:
    """What was checked, what was found, and the verdict; on a terminal of that width, None: no terminal."""
    yield from wrap_sentence(_checked(report), width)
    for one in report.found[:_MOST]:
        yield from wrap_sentence(_sentence(one), width)
    if len(report.found) > _MOST:
        yield f"... and {len(report.found) - _MOST} more; --json has all."
    guilty = sorted({one.plugin for one in report.found})
    if not guilty:
        yield "No look-ahead." if report.signals else "No look-ahead, but no signal either: nothing could differ."
        return
    verdict = f"Look-ahead of {', '.join(guilty)}: a backtest trades what live trading cannot know."
    yield from wrap_sentence(verdict, width)


def _checked(report: LookaheadReport) -> str:
    sample = "" if report.checked == report.sessions else f" of {report.sessions:,} (a sample: --all checks every one)"
    judged = f", and the judgements of {', '.join(report.filters)}" if report.filters else ""
    return (
        f"Checked {', '.join(report.strategies)} from {report.first} to {report.last} in "
        f"{plural(report.checked, 'session')}{sample} of {plural(report.symbols, 'symbol')}: "
        f"{plural(report.signals, 'signal')}{judged}, without the bars after each minute of the entry phase, with "
        f"random ones, and with each session alone."
    )


def _sentence(one: LookaheadFinding) -> str:
    by = f"[{one.strategy}]" if one.plugin == f"strategy/{one.strategy}" else f"{one.plugin} on [{one.strategy}]"
    symbol = f" {one.symbol}" if one.symbol else ""
    return f"{by} {one.session} {one.time}{symbol} (minute {one.minute}): {one.change}: {one.found}"
