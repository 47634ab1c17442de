"""Draw docs/images/strategy-*.svg: of each strategy the best long trade of the demo, from the charts of its report.

.venv/bin/python tools/strategy_pictures.py
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import sys
import tempfile
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from tbot_core import cli
from tbot_core.model import json_document

STRATEGIES: Final = ("open", "mid", "close")
IMAGES: Final = Path(__file__).parents[1] / "docs" / "images"
_WIDTH: Final = 760
_HEIGHT: Final = 320
_LEFT: Final = 28
_RIGHT: Final = 176
_TOP: Final = 16
_BOTTOM: Final = 32
_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#57606a}.up,.down{stroke:#8b949e;fill:#8b949e}.up{fill:#fff}"
    ".held{fill:#1f6feb14}.base{stroke:#8250df;fill:#8250df}.trigger{stroke:#8250df;fill:#8250df;stroke-dasharray:5 3}"
    ".stop{stroke:#bc4c00;fill:#bc4c00}.target{stroke:#1a7f37;fill:#1a7f37}.trade{stroke:#1f6feb;fill:#1f6feb}"
    "path{fill:none!important;stroke-width:1.5}text.label{stroke:none}.axis{stroke:#d0d7de}"
)


def charts(home: Path) -> dict[str, dict[str, Any]]:
    """The chart of the best long trade of each strategy, of a demo in this folder."""
    with contextlib.redirect_stdout(io.StringIO()):
        failed = cli.invoke(["run", "--demo", "--home", str(home), "--json"])
    if failed:
        raise SystemExit("the demo failed")
    (page,) = (home / "reports").glob("*.html")
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    if text is None:
        raise SystemExit("the report has no charts")
    drawn = json_document.parse_json(text[1])["trades"]
    rows = list(csv.DictReader(page.with_suffix(".csv").read_text().splitlines()))
    found = {}
    for name in STRATEGIES:
        pairs = zip(rows, drawn, strict=True)
        longs = [(float(row["pnl"]), chart) for row, chart in pairs if (row["strategy"], row["side"]) == (name, "long")]
        found[name] = max(longs, key=lambda pair: pair[0])[1]
    return found


class Picture:
    """One chart as SVG: bars, levels, entry, stop and exit."""

    def __init__(self, chart: dict[str, Any]) -> None:
        self.chart = chart
        self.first: int = chart["m"]
        self.bars = _bars(chart)
        lines = [value / 10 ** chart["d"] for line in chart["l"] for value in accumulate(line[4])]
        others = [level for _, level in chart["s"]] + [chart["e"][1], chart["x"][1], *filter(None, [chart.get("g")])]
        prices = [price for bar in self.bars if bar for price in bar] + lines + others
        margin = (max(prices) - min(prices)) * 0.04
        self.low: float = min(prices) - margin
        self.high: float = max(prices) + margin
        self.labels: list[tuple[float, str, str]] = []

    def x(self, minute: float) -> float:
        """The position of the start of a minute of the session."""
        return _LEFT + (minute - self.first) * (_WIDTH - _LEFT - _RIGHT) / len(self.bars)

    def y(self, price: float) -> float:
        """The position of a price."""
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (self.high - price) / (self.high - self.low)

    def svg(self, title: str) -> str:
        """The whole picture."""
        chart = self.chart
        entry, leave = chart["e"], chart["x"]
        width, height = self.x(leave[0]) - self.x(entry[0]), _HEIGHT - _TOP - _BOTTOM
        parts = [f'<rect class="held" x="{self.x(entry[0]):.1f}" y="{_TOP}" width="{width:.1f}" height="{height}"/>']
        parts += self._candles()
        for kind, name, start, stop, values in chart["l"]:
            prices = [value / 10 ** chart["d"] for value in accumulate(values)]
            parts.append(self._line(kind, name, start, stop, prices * (stop - start if len(prices) == 1 else 1)))
        parts.append(self._stop())
        if "g" in chart:
            parts.append(self._line("target", "target", entry[0], leave[0], [chart["g"]] * (leave[0] - entry[0])))
        a, b = (self.x(entry[0] + 0.5), self.y(entry[1])), (self.x(leave[0] + 0.5), self.y(leave[1]))
        parts.append(f'<path class="trade" d="M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}"/>')
        parts += [f'<circle class="trade" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in (a, b)]
        self.labels += [(a[1], "trade", "entry"), (b[1], "trade", "exit")]
        body = "\n".join((*parts, *self._names(), *self._times()))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
            f'\n<style>{_STYLE}</style>\n<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>\n{body}\n</svg>\n'
        )

    def _candles(self) -> list[str]:
        parts, wide = [], self.x(1) - self.x(0)
        for number, bar in enumerate(self.bars, start=self.first):
            if bar is None:
                continue
            opened, high, low, close = bar
            kind, x = "up" if close >= opened else "down", self.x(number + 0.5)
            top, tall = self.y(max(opened, close)), max(abs(self.y(opened) - self.y(close)), 1)
            wick = f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{self.y(high):.1f}" y2="{self.y(low):.1f}"/>'
            box = f'x="{x - wide * 0.32:.1f}" y="{top:.1f}" width="{wide * 0.64:.1f}" height="{tall:.1f}"'
            parts += [wick, f'<rect class="{kind}" {box}/>']
        return parts

    def _line(self, kind: str, name: str, start: int, stop: int, prices: list[float]) -> str:
        points = [f"{self.x(start + n):.1f} {self.y(price):.1f}" for n, price in enumerate(prices)]
        points.append(f"{self.x(stop):.1f} {self.y(prices[-1]):.1f}")
        self.labels.append((self.y(prices[-1]), kind, name))
        return f'<path class="{kind}" d="M{"L".join(points)}"/>'

    def _stop(self) -> str:
        stops, leave = self.chart["s"], self.chart["x"][0]
        ends = [minute for minute, _ in stops[1:]] + [leave + 1]
        prices = [level for (minute, level), end in zip(stops, ends, strict=True) for _ in range(minute, end)]
        return self._line("stop", "stop", stops[0][0], leave + 1, prices)

    def _names(self) -> list[str]:
        # The names at the right edge, moved apart where they would overlap.
        parts, last = [], 0.0
        for y, kind, name in sorted(self.labels):
            last = max(y + 4, last + 15)
            parts.append(f'<text class="{kind} label" x="{_WIDTH - _RIGHT + 12}" y="{last:.1f}">{name}</text>')
        return parts

    def _times(self) -> list[str]:
        base = _HEIGHT - _BOTTOM
        parts = [f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>']
        for minute in range(-(-self.first // 10) * 10, self.first + len(self.bars) + 1, 10):
            clock = (self.chart["t"] + self.chart["z"] + minute) % 1440
            label = f"{clock // 60:02}:{clock % 60:02}"
            parts.append(f'<text x="{self.x(minute):.1f}" y="{base + 18}" text-anchor="middle">{label}</text>')
        return parts


def _bars(chart: dict[str, Any]) -> list[tuple[float, float, float, float] | None]:
    # Open, high, low and close of each minute; docs/reference/report.md has the format.
    found: list[tuple[float, float, float, float] | None] = []
    values, close = iter(chart["b"]), 0
    for value in values:
        if value is None:
            found.append(None)
            continue
        up, down, move = next(values), next(values), next(values)
        opened = close + value
        close = opened + move
        unit = 10 ** chart["d"]
        high, low = max(opened, close) + up, min(opened, close) - down
        found.append((opened / unit, high / unit, low / unit, close / unit))
    return found


def main() -> None:
    """Write the pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, chart in charts(Path(folder) / "demo").items():
            path = IMAGES / f"strategy-{name}.svg"
            path.write_text(Picture(chart).svg(f"A trade of the strategy {name}"))
            sys.stdout.write(f"{path.relative_to(IMAGES.parents[1])} is written.\n")


if __name__ == "__main__":
    main()
