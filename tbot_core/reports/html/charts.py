"""The report's static charts, readable without scripts: equity, drawdown, and the profit of each session.

`series` has the same points for the interactive charts that take their place where scripts run.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from html import escape
from typing import TYPE_CHECKING, Any, Final

from tbot_core.model.formatting import format_money, format_percent
from tbot_core.reports import figures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from tbot_core.reports.timeline import RunTimeline, SessionTimeline

_WIDTH: Final = 1000
_HEIGHT: Final = 240
_LOW: Final = 170
_LEFT: Final = 84
_RIGHT: Final = 16
_TOP: Final = 14
_BOTTOM: Final = 28
_LABELS: Final = 10
_CENT: Final = Decimal("0.01")
_BASIS_POINT: Final = Decimal("0.0001")
_MOST_POINTS: Final = 3_000
"""Of a longer curve each session keeps its first, lowest, highest and last point."""


def equity(story: RunTimeline) -> str:
    """Chart the equity after each closed trade; every session has the same width."""
    points = curve(story)
    if not points:
        return ""
    low, high, step = _scale([value for _, value in points], _CENT)
    label = f"Equity from {format_money(points[0][1])} to {format_money(points[-1][1])} USD"
    drawn = [*_grid(low, high, step, _HEIGHT, _money_label), *_steps(points, (low, high), story, _HEIGHT, "line")]
    return _figure(
        ("equity", "Equity", "After each closed trade and at each close; USD."), label, [*drawn, *_days(story, _HEIGHT)]
    )


def drawdown(story: RunTimeline) -> str:
    """Chart the distance of the equity from its highest point before."""
    points = _falls(curve(story))
    if not points:
        return ""
    low, high, step = _scale([*(value for _, value in points), Decimal(0)], _BASIS_POINT)
    label = f"Drawdown, at most {format_percent(min(value for _, value in points))}"
    grid = _grid(low, min(high, step * 0), step, _LOW, _percent_label)
    drawn = [*grid, *_steps(points, (low, Decimal(0)), story, _LOW, "fall")]
    return _figure(
        ("drawdown", "Drawdown", "Equity below its highest point before, as a share of it."),
        label,
        [*drawn, *_days(story, _LOW)],
        _LOW,
    )


def sessions(story: RunTimeline) -> str:
    """Chart the profit or loss of each session."""
    if len(story.chapters) < 2:
        return ""
    low, high, step = _scale([*(chapter.pnl for chapter in story.chapters), Decimal(0)], _CENT)
    slot = (_WIDTH - _LEFT - _RIGHT) / len(story.chapters)
    zero, bars = _y(Decimal(0), low, high, _LOW), []
    for number, chapter in enumerate(story.chapters):
        y = _y(chapter.pnl, low, high, _LOW)
        left, wide = _LEFT + slot * number + slot * 0.2, min(slot * 0.6, 60.0)
        left += (slot * 0.6 - wide) / 2
        kind = "loss" if chapter.pnl < 0 else "gain"
        tooltip = f"{escape(chapter.date)}: {format_money(chapter.pnl, signed=True)}"
        bars.append(
            f'<rect class="{kind}" x="{left:.1f}" y="{min(y, zero):.1f}" width="{wide:.1f}" '
            f'height="{max(abs(y - zero), 1):.1f}" rx="2"><title>{tooltip}</title></rect>'
        )
    label = f"Net P&L of {len(story.chapters)} sessions"
    drawn = [*_grid(low, high, step, _LOW, _money_label), *bars, *_days(story, _LOW)]
    return _figure(("sessions", "Sessions", "Net P&L of each session; USD."), label, drawn, _LOW)


def series(story: RunTimeline) -> dict[str, Any]:
    """The points of these charts: the x of a moment is its session's number plus the part of the session before it."""
    points = curve(story)
    return {
        "days": [chapter.date for chapter in story.chapters],
        "x": [round(where, 4) for where, _ in points],
        "equity": [float(round(value, 2)) for _, value in points],
        "drawdown": [float(round(value, 6)) for _, value in _falls(points)],
        "pnl": [float(round(chapter.pnl, 2)) for chapter in story.chapters],
    }


def curve(story: RunTimeline) -> list[tuple[float, Decimal]]:
    """The equity of a run: session number plus part of the session, and dollars."""
    found = zip(story.chapters, story.curves, strict=True)
    parts = [_points(number, *one) for number, one in enumerate(found)]
    if sum(map(len, parts)) > _MOST_POINTS:
        parts = [_extremes(part) for part in parts]
    return [point for part in parts for point in part]


def _points(
    number: int, chapter: SessionTimeline, values: Sequence[tuple[datetime, Decimal]]
) -> list[tuple[float, Decimal]]:
    length = (chapter.close - chapter.open).total_seconds()

    def x(moment: datetime) -> float:
        return number + (moment - chapter.open).total_seconds() / length

    return [(x(moment), value) for moment, value in values]


def _extremes(part: list[tuple[float, Decimal]]) -> list[tuple[float, Decimal]]:
    lowest, highest = min(part, key=lambda one: one[1]), max(part, key=lambda one: one[1])
    return sorted({part[0], lowest, highest, part[-1]})


def _falls(points: Sequence[tuple[float, Decimal]]) -> list[tuple[float, Decimal]]:
    found = figures.drawdowns(value for _, value in points)
    return [(where, Decimal(str(fall))) for (where, _), fall in zip(points, found, strict=True)]


def _steps(
    points: Sequence[tuple[float, Decimal]],
    bounds: tuple[Decimal, Decimal],
    story: RunTimeline,
    height: int,
    kind: str,
) -> tuple[str, str]:
    # A stepped line, and the area between it and the chart's lower end; of a drawdown the upper end.
    places = [(_x(where, len(story.chapters)), _y(value, *bounds, height)) for where, value in points]
    steps = [f"M{places[0][0]:.1f} {places[0][1]:.1f}"] + [f"H{x:.1f}V{y:.1f}" for x, y in places[1:]]
    line, base = "".join(steps), _TOP if kind == "fall" else height - _BOTTOM
    area = f"{line}V{base}H{places[0][0]:.1f}Z"
    return f'<path class="{kind}-area" d="{area}"/>', f'<path class="{kind}" d="{line}"/>'


def _scale(values: Sequence[Decimal], least: Decimal) -> tuple[Decimal, Decimal, Decimal]:
    # The lowest and highest grid line, which enclose all values, and the step between two.
    low, high = min(values), max(values)
    rough = max((high - low) / 4, least)
    unit = Decimal(1).scaleb(rough.adjusted())
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    low = (low / step).to_integral_value(ROUND_FLOOR) * step
    high = (high / step).to_integral_value(ROUND_CEILING) * step
    return (low, high, step) if low < high else (low - step, high + step, step)


def _x(where: float, sessions: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * where / sessions


def _y(value: Decimal, low: Decimal, high: Decimal, height: int) -> float:
    return _TOP + (height - _TOP - _BOTTOM) * float((high - value) / (high - low))


def _money_label(level: Decimal) -> str:
    return format_money(level).removesuffix(".00")


def _percent_label(level: Decimal) -> str:
    return format_percent(level)


def _grid(low: Decimal, high: Decimal, step: Decimal, height: int, label: Callable[[Decimal], str]) -> list[str]:
    # Lines at round amounts, with labels.
    drawn = []
    for number in range(int((high - low) / step) + 1):
        level = low + number * step
        y = _y(level, low, high, height)
        drawn.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label(level)}</text>'
        )
    return drawn


def _days(story: RunTimeline, height: int) -> list[str]:
    # Dates under the sessions, as many as fit.
    count = len(story.chapters)
    each = -(-count // _LABELS)
    return [
        f'<text x="{_x(number + 0.5, count):.1f}" y="{height - 8}" text-anchor="middle">{escape(chapter.date)}</text>'
        for number, chapter in enumerate(story.chapters)
        if number % each == 0
    ]


def _figure(names: tuple[str, str, str], label: str, drawn: Sequence[str], height: int = _HEIGHT) -> str:
    # `names`: the id, the title and the caption.
    inside, (name, title, caption) = "\n".join(drawn), names
    return (
        f'<section><h2>{title}</h2>\n<p class="soft">{caption}</p>\n<figure id="{name}"><svg viewBox="0 0 {_WIDTH} '
        f'{height}" role="img" aria-label="{escape(label)}">\n{inside}\n</svg></figure></section>'
    )
