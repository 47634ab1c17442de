"""What the script of a trade's page draws, by a library that writes down what it is given."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tbot_extension_web.site import FOLDER
from web_browser import chromium

pytestmark = [pytest.mark.first(0), pytest.mark.usefixtures("loopback")]

SCRIPT = FOLDER / "static" / "trade_chart.js"
ORIGIN = "http://127.0.0.1:9/"
LIBRARY = """
window.drawn = []; window.marks = [];
const series = (options) => ({ setData: (data) => window.drawn.push({ options, data }), createPriceLine: () => {} });
const scale = { width: () => 100, setVisibleLogicalRange: () => {}, subscribeSizeChange: () => {} };
window.LightweightCharts = { LineStyle: {}, LineType: {},
  createSeriesMarkers: (_, marks) => window.marks.push(...marks),
  createChart: () => ({ addSeries: (_, options) => series(options), timeScale: () => scale, remove: () => {} }) };
"""
BAR = {"open": 58.4, "high": 58.5, "low": 58.3, "close": 58.45}
DATA: dict[str, Any] = {
    "digits": 2,
    "bars": [{"time": 60, **BAR}, {"time": 120, **BAR}],
    "lines": [],
    "stops": [{"time": 60, "value": 57.16}],
    "target": None,
    "entry": {"time": 60, "value": 58.4},
    "exit": {"time": 180, "value": 57.86},
    "signal": 0,
    "side": 1,
}


def drawn(data: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """The series and marks of the chart."""
    page = (
        f'<!doctype html><div id="trade-chart"></div><script type="application/json" id="trade-data">{json.dumps(data)}'
        f"</script><script>{LIBRARY}</script><script>{SCRIPT.read_text()}</script>"
    )
    with chromium() as browser:
        tab = browser.new_page()
        tab.route("**/*", lambda asked: asked.fulfill(body=page, content_type="text/html"))
        tab.goto(ORIGIN)
        return tab.evaluate("window.drawn"), tab.evaluate("window.marks")


@pytest.mark.slow
def test_the_exit_is_a_point_at_its_minute_and_price() -> None:
    """Also where the bar of that minute never closed; the stop is drawn up to it."""
    series, marks = drawn(DATA)
    points = [one["data"] for one in series if one["options"].get("pointMarkersVisible")]
    assert points == [[DATA["exit"]]]
    assert [one["time"] for one in marks] == [60]
    assert [{"time": 60, "value": 57.16}, {"time": 180, "value": 57.16}] in [one["data"] for one in series]


@pytest.mark.slow
def test_an_open_trade_has_no_exit_and_its_stop_goes_on_for_five_minutes() -> None:
    """Nothing else is drawn beyond the last bar."""
    series, marks = drawn({**DATA, "exit": None})
    assert not any(one["options"].get("pointMarkersVisible") for one in series)
    assert len(marks) == 1
    assert [{"time": time, "value": 57.16} for time in range(60, 421, 60)] in [one["data"] for one in series]
    assert max(point["time"] for one in series for point in one["data"] if "color" not in one["options"]) == 120


@pytest.mark.slow
def test_the_stop_of_an_open_trade_is_drawn_in_its_first_minute() -> None:
    """Its bar has not come yet."""
    series, _ = drawn(
        {**DATA, "exit": None, "entry": {"time": 180, "value": 58.4}, "stops": [{"time": 180, "value": 57}]}
    )
    assert [{"time": time, "value": 57} for time in range(180, 481, 60)] in [one["data"] for one in series]
