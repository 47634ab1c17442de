"""The report's charts: equity after each fill, and the profit of each session."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from html import escape
from typing import TYPE_CHECKING, Final

from tbot_core.model.formatting import format_money

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.reports.timeline import RunTimeline, SessionTimeline

_WIDTH: Final = 1000
_HEIGHT: Final = 240
_LEFT: Final = 84
_RIGHT: Final = 16
_TOP: Final = 14
_BOTTOM: Final = 28
_LABELS: Final = 10
_CENT: Final = Decimal("0.01")


def equity(story: RunTimeline) -> str:
    """Chart the equity after each fill; every session has the same width."""
    points = [point for number, chapter in enumerate(story.chapters) for point in _points(number, chapter)]
    if not points:
        return ""
    low, high, step = _scale([value for _, value in points])
    places = [(_x(where, len(story.chapters)), _y(value, low, high)) for where, value in points]
    steps = [f"M{places[0][0]:.1f} {places[0][1]:.1f}"] + [f"H{x:.1f}V{y:.1f}" for x, y in places[1:]]
    line = "".join(steps)
    base = _HEIGHT - _BOTTOM
    area = f"{line}V{base}H{places[0][0]:.1f}Z"
    paths = f'<path class="area" d="{area}"/>', f'<path class="line" d="{line}"/>'
    drawn = [*_grid(low, high, step), *paths, *_days(story)]
    label = f"Equity from {format_money(points[0][1])} to {format_money(points[-1][1])} USD"
    return _figure("Equity", label, drawn, "Equity after each fill, open positions at their last fill; USD.")


def sessions(story: RunTimeline) -> str:
    """Chart the profit or loss of each session."""
    if len(story.chapters) < 2:
        return ""
    low, high, step = _scale([*(chapter.pnl for chapter in story.chapters), Decimal(0)])
    slot = (_WIDTH - _LEFT - _RIGHT) / len(story.chapters)
    zero, bars = _y(Decimal(0), low, high), []
    for number, chapter in enumerate(story.chapters):
        y = _y(chapter.pnl, low, high)
        left, wide = _LEFT + slot * number + slot * 0.2, min(slot * 0.6, 120.0)
        left += (slot * 0.6 - wide) / 2
        kind = "loss" if chapter.pnl < 0 else "gain"
        tooltip = f"{escape(chapter.date)}: {format_money(chapter.pnl, signed=True)}"
        bars.append(
            f'<rect class="{kind}" x="{left:.1f}" y="{min(y, zero):.1f}" width="{wide:.1f}" '
            f'height="{max(abs(y - zero), 1):.1f}" rx="2"><title>{tooltip}</title></rect>'
        )
    label = f"Net P&L of {len(story.chapters)} sessions"
    return _figure("Sessions", label, [*_grid(low, high, step), *bars, *_days(story)], "Net P&L of each session; USD.")


def _points(number: int, chapter: SessionTimeline) -> list[tuple[float, Decimal]]:
    length = (chapter.close - chapter.open).total_seconds()
    return [(number + (moment - chapter.open).total_seconds() / length, value) for moment, value in chapter.curve]


def _scale(values: Sequence[Decimal]) -> tuple[Decimal, Decimal, Decimal]:
    # The lowest and highest grid line, which enclose all values, and the step between two.
    low, high = min(values), max(values)
    rough = max((high - low) / 4, _CENT)
    unit = Decimal(1).scaleb(rough.adjusted())
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    low = (low / step).to_integral_value(ROUND_FLOOR) * step
    high = (high / step).to_integral_value(ROUND_CEILING) * step
    return (low, high, step) if low < high else (low - step, high + step, step)


def _x(where: float, sessions: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * where / sessions


def _y(value: Decimal, low: Decimal, high: Decimal) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * float((high - value) / (high - low))


def _grid(low: Decimal, high: Decimal, step: Decimal) -> list[str]:
    # Lines at round amounts, with labels.
    drawn = []
    for number in range(int((high - low) / step) + 1):
        level = low + number * step
        y = _y(level, low, high)
        drawn.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{format_money(level).removesuffix(".00")}</text>'
        )
    return drawn


def _days(story: RunTimeline) -> list[str]:
    # Dates under the sessions, as many as fit.
    count = len(story.chapters)
    each = -(-count // _LABELS)
    return [
        f'<text x="{_x(number + 0.5, count):.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(chapter.date)}</text>'
        for number, chapter in enumerate(story.chapters)
        if number % each == 0
    ]


def _figure(title: str, label: str, drawn: Sequence[str], caption: str) -> str:
    inside = "\n".join(drawn)
    return (
        f'<h2>{title}</h2>\n<p class="soft">{caption}</p>\n<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">\n{inside}\n</svg></figure>'
    )
