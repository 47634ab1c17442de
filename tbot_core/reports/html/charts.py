"""The report's static charts, readable without scripts: equity, drawdown, and the profit of each session.

`series` has the same points for the interactive charts that take their place where scripts run.
"""

from __future__ import annotations

from collections import deque
from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from html import escape
from typing import TYPE_CHECKING, Any, Final

from tbot_core.model.formatting import format_money, format_percent
from tbot_core.reports import figures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from tbot_core.model.calendar import SessionGap
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

_GAP_SHARE: Final = 25
"""A gap is at most as wide as one of so many parts of the sessions, and at least as one session."""

Point = tuple[float, Decimal]


class Places:
    """Where the sessions of a run stand: each has the width 1, and a gap before, between or after them a part of all.

    `starts` are the places of the sessions, `end` is that after the last one or gap, `gaps` are those that were not
    traded, with their places.
    """

    def __init__(self, story: RunTimeline) -> None:
        days = [date.fromisoformat(chapter.date) for chapter in story.chapters]
        widest = max(len(days) // _GAP_SHARE, 1)
        self.starts: list[int] = []
        self.gaps: list[tuple[int, int, SessionGap]] = []
        self.end, left = 0, deque(sorted(story.gaps, key=lambda one: one.first))
        for day in (*days, date.max):
            while left and left[0].first < day:
                gap = left.popleft()
                self.gaps.append((self.end, self.end + min(gap.count, widest), gap))
                self.end = self.gaps[-1][1]
            if day != date.max:
                self.starts.append(self.end)
                self.end += 1

    @property
    def words(self) -> str:
        """What the gaps are; "" without any."""
        if not self.gaps:
            return ""
        longest = max((gap for _, _, gap in self.gaps), key=lambda one: one.count)
        if len(self.gaps) == 1:
            return f" Nothing was traded in the grey part: {longest}."
        count = sum(gap.count for _, _, gap in self.gaps)
        return (
            f" Nothing was traded in the {len(self.gaps):,} grey parts: {count:,} sessions in all, at most {longest}."
        )

    def pieces(self, points: Sequence[Point]) -> list[list[Point]]:
        """The points of a curve, apart where a gap lies between them."""
        found, gaps = [list[Point]()], deque(self.gaps)
        for point in points:
            while gaps and gaps[0][1] <= point[0]:
                gaps.popleft()
                found.append([])
            found[-1].append(point)
        return [piece for piece in found if piece]


def equity(story: RunTimeline) -> str:
    """Chart the equity after each closed trade; every session has the same width."""
    places = Places(story)
    points = curve(story, places)
    if not points:
        return ""
    low, high, step = _scale([value for _, value in points], _CENT)
    label = f"Equity from {format_money(points[0][1])} to {format_money(points[-1][1])} USD"
    drawn = [*_grid(low, high, step, _HEIGHT, _money_label), *_gaps(places, _HEIGHT)]
    drawn += _steps(points, (low, high), places, _HEIGHT, "line")
    caption = f"After each closed trade and at each close; USD.{places.words}"
    return _figure(("equity", "Equity", caption), label, [*drawn, *_days(story, places, _HEIGHT)])


def drawdown(story: RunTimeline) -> str:
    """Chart the distance of the equity from its highest point before."""
    places = Places(story)
    points = _falls(curve(story, places))
    if not points:
        return ""
    low, high, step = _scale([*(value for _, value in points), Decimal(0)], _BASIS_POINT)
    label = f"Drawdown, at most {format_percent(min(value for _, value in points))}"
    grid = _grid(low, min(high, step * 0), step, _LOW, _percent_label)
    drawn = [*grid, *_gaps(places, _LOW), *_steps(points, (low, Decimal(0)), places, _LOW, "fall")]
    return _figure(
        ("drawdown", "Drawdown", "Equity below its highest point before, as a share of it."),
        label,
        [*drawn, *_days(story, places, _LOW)],
        _LOW,
    )


def sessions(story: RunTimeline) -> str:
    """Chart the profit or loss of each session."""
    if len(story.chapters) < 2:
        return ""
    low, high, step = _scale([*(chapter.pnl for chapter in story.chapters), Decimal(0)], _CENT)
    places = Places(story)
    slot = (_WIDTH - _LEFT - _RIGHT) / places.end
    zero, bars = _y(Decimal(0), low, high, _LOW), []
    for start, chapter in zip(places.starts, story.chapters, strict=True):
        y = _y(chapter.pnl, low, high, _LOW)
        left, wide = _LEFT + slot * start + slot * 0.2, min(slot * 0.6, 60.0)
        left += (slot * 0.6 - wide) / 2
        kind = "loss" if chapter.pnl < 0 else "gain"
        tooltip = f"{escape(chapter.date)}: {format_money(chapter.pnl, signed=True)}"
        bars.append(
            f'<rect class="{kind}" x="{left:.1f}" y="{min(y, zero):.1f}" width="{wide:.1f}" '
            f'height="{max(abs(y - zero), 1):.1f}" rx="2"><title>{tooltip}</title></rect>'
        )
    label = f"Net P&L of {len(story.chapters)} sessions"
    drawn = [*_grid(low, high, step, _LOW, _money_label), *_gaps(places, _LOW), *bars, *_days(story, places, _LOW)]
    return _figure(("sessions", "Sessions", "Net P&L of each session; USD."), label, drawn, _LOW)


def series(story: RunTimeline) -> dict[str, Any]:
    """The points of these charts: the x of a moment is its session's place plus the part of the session before it.

    A gap has a point without values.
    """
    places = Places(story)
    points = curve(story, places)
    values = [*zip(points, _falls(points), strict=True)]
    rows: list[tuple[float, float | None, float | None]] = [
        (round(where, 4), float(round(value, 2)), float(round(fall, 6))) for (where, value), (_, fall) in values
    ]
    rows += [((start + end) / 2, None, None) for start, end, _ in places.gaps]
    rows.sort(key=lambda row: row[0])
    return {
        "days": [chapter.date for chapter in story.chapters],
        "places": places.starts,
        "end": places.end,
        "gaps": [[start, end, f"{gap}"] for start, end, gap in places.gaps],
        "x": [row[0] for row in rows],
        "equity": [row[1] for row in rows],
        "drawdown": [row[2] for row in rows],
        "pnl": [float(round(chapter.pnl, 2)) for chapter in story.chapters],
    }


def curve(story: RunTimeline, places: Places) -> list[Point]:
    """The equity of a run: the session's place plus part of the session, and dollars."""
    found = zip(story.chapters, story.curves, strict=True)
    parts = [_points(start, *one) for start, one in zip(places.starts, found, strict=True)]
    if sum(map(len, parts)) > _MOST_POINTS:
        parts = [_extremes(part) for part in parts]
    return [point for part in parts for point in part]


def _points(start: int, chapter: SessionTimeline, values: Sequence[tuple[datetime, Decimal]]) -> list[Point]:
    length = (chapter.close - chapter.open).total_seconds()

    def x(moment: datetime) -> float:
        return start + (moment - chapter.open).total_seconds() / length

    return [(x(moment), value) for moment, value in values]


def _extremes(part: list[Point]) -> list[Point]:
    lowest, highest = min(part, key=lambda one: one[1]), max(part, key=lambda one: one[1])
    return sorted({part[0], lowest, highest, part[-1]})


def _falls(points: Sequence[Point]) -> list[Point]:
    found = figures.drawdowns(value for _, value in points)
    return [(where, Decimal(str(fall))) for (where, _), fall in zip(points, found, strict=True)]


def _steps(
    points: Sequence[Point],
    bounds: tuple[Decimal, Decimal],
    places: Places,
    height: int,
    kind: str,
) -> tuple[str, str]:
    # A stepped line, and the area between it and the chart's lower end; of a drawdown the upper end.
    lines, areas, base = [], [], _TOP if kind == "fall" else height - _BOTTOM
    for piece in places.pieces(points):
        (x, y), *rest = [(_x(where, places.end), _y(value, *bounds, height)) for where, value in piece]
        lines.append("".join([f"M{x:.1f} {y:.1f}", *(f"H{to:.1f}V{level:.1f}" for to, level in rest)]))
        areas.append(f"{lines[-1]}V{base}H{x:.1f}Z")
    return f'<path class="{kind}-area" d="{"".join(areas)}"/>', f'<path class="{kind}" d="{"".join(lines)}"/>'


def _scale(values: Sequence[Decimal], least: Decimal) -> tuple[Decimal, Decimal, Decimal]:
    # The lowest and highest grid line, which enclose all values, and the step between two.
    low, high = min(values), max(values)
    rough = max((high - low) / 4, least)
    unit = Decimal(1).scaleb(rough.adjusted())
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    low = (low / step).to_integral_value(ROUND_FLOOR) * step
    high = (high / step).to_integral_value(ROUND_CEILING) * step
    return (low, high, step) if low < high else (low - step, high + step, step)


def _x(where: float, end: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * where / end


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


def _gaps(places: Places, height: int) -> list[str]:
    # A strip over each gap.
    return [
        f'<rect class="gap" x="{_x(start, places.end):.1f}" y="{_TOP}" height="{height - _TOP - _BOTTOM}" '
        f'width="{_x(end, places.end) - _x(start, places.end):.1f}"><title>not traded: {gap}</title></rect>'
        for start, end, gap in places.gaps
    ]


def _days(story: RunTimeline, places: Places, height: int) -> list[str]:
    # Dates under the sessions, as many as fit.
    each, free, found = -(-places.end // _LABELS), 0, []
    for start, chapter in zip(places.starts, story.chapters, strict=True):
        if start < free:
            continue
        x, free = _x(start + 0.5, places.end), start + each
        found.append(f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{escape(chapter.date)}</text>')
    return found


def _figure(names: tuple[str, str, str], label: str, drawn: Sequence[str], height: int = _HEIGHT) -> str:
    # `names`: the id, the title and the caption.
    inside, (name, title, caption) = "\n".join(drawn), names
    return (
        f'<section><h2>{title}</h2>\n<p class="soft">{caption}</p>\n<figure id="{name}"><svg viewBox="0 0 {_WIDTH} '
        f'{height}" role="img" aria-label="{escape(label)}">\n{inside}\n</svg></figure></section>'
    )
