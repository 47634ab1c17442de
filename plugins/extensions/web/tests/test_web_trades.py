"""The pages of trades: the table with its sums, and each trade with its chart and the same figures as text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from decimal import Decimal
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from tbot_extension_web.headers import CHART_STYLE
from tbot_extension_web.site import FOLDER
from tbot_extension_web.testing.client import ask

from tbot_core import cli
from tbot_core.errors import DataError, UsageError
from tbot_core.reports.summary import SIMULATED_PRICES
from tbot_core.status.trades import trade_with_chart, trades_document
from tbot_core.status.why import why_document

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import ASGIApp

VIEWER = {"cookie": "tbot-session=viewer"}


def shown(app: ASGIApp, path: str, status: int = 200) -> str:
    """The text of a page."""
    answer = ask(app, "GET", path, VIEWER)
    assert answer.status == status
    return unescape(answer.text)


def test_the_table_has_each_trade_and_the_sums(traded_app: ASGIApp, traded: Path) -> None:
    """Those of the latest session at first, of the whole run on request; the sums are those of the rows."""
    found = trades_document(traded)
    assert found["count"] == len(found["trades"]) == sum(one["count"] for one in found["strategies"]) > 0
    for path in ("/trades", "/trades?date=all"):
        page = shown(traded_app, path)
        for one in found["trades"]:
            assert f'href="/trades/{one["id"]}?run={found["run"]}">{one["symbol"]}</a>' in page


def chart(page: str) -> Any:
    """The data of the chart in a page."""
    (text,) = re.findall(r'id="trade-data">(.+?)</script>', page)
    return json.loads(text)


def test_a_trade_has_its_bars_and_levels(traded_app: ASGIApp, traded: Path) -> None:
    """The bar of the signal is the one that `tbot why` shows; entry and exit lie at the trade's times and prices."""
    first = trades_document(traded)["trades"][0]
    page = shown(traded_app, f"/trades/{first['id']}")
    data = chart(page)
    why = why_document(first["symbol"], traded)
    minute = next(one for one in why["minutes"] if one["bar"] is not None)
    bar = {name: minute["bar"][name] for name in ("open", "high", "low", "close")}
    bars = [{name: one[name] for name in bar} for one in data["bars"] if one["time"] == data["signal"]]
    assert bars == [bar]
    assert data["entry"]["value"] == float(first["entry_price"])
    assert data["exit"]["value"] == float(first["exit_price"])
    assert any(one["kind"] == "base" for one in data["lines"])
    drawn = page.partition('<svg class="trade-picture"')[2].partition('class="chart-legend"')[0]
    assert drawn.count("<rect ") == len(data["bars"])
    assert [f'class="{kind}"' in drawn for kind in ("stop", "base", "entry", "exit")] == [True] * 4
    assert "Why this trade?" in page
    for text in (page, shown(traded_app, "/trades")):
        assert SIMULATED_PRICES in text.partition("Entry</")[0]
    assert "tradingview.com" in page
    assert "noscript" not in page.partition("<main")[2]


def test_each_mark_and_line_of_the_chart_is_named_below_it(traded_app: ASGIApp, traded: Path) -> None:
    """With its value: no name lies on the bars."""
    first = trades_document(traded)["trades"][0]
    page = shown(traded_app, f"/trades/{first['id']}")
    data = chart(page)
    legend = re.sub(r"<span.*?</span>", "", page.partition('class="chart-legend"')[2].partition("</ul>")[0])
    named = [one.rsplit(" ", 1) for one in re.findall(r"<li>(.*?)</li>", legend)]
    levels = [("entry", data["entry"]["value"]), ("exit", data["exit"]["value"]), ("stop", data["stops"][-1]["value"])]
    levels += [] if data["target"] is None else [("target", data["target"])]
    levels += [(one["name"], one["points"][-1]["value"]) for one in data["lines"]]
    digits = max(data["digits"], 2)
    assert named == [[name, f"{value:.{digits}f}"] for name, value in levels]


def test_an_open_trade_has_its_page_with_the_bars_until_now(
    held: tuple[Path, dict[str, Any]], app_of: Callable[[Path], ASGIApp]
) -> None:
    """The dashboard leads there, and beside it to why; the page has levels, planned exit and orders, and no exit."""
    home, first = held
    app = app_of(home)
    dashboard = shown(app, "/")
    assert f'href="/trades/{first["id"]}?run=' in dashboard
    assert f'aria-label="Why, {first["symbol"]}">why</a>' in dashboard
    page = shown(app, f"/trades/{first['id']}")
    data = chart(page)
    assert (data["exit"], data["entry"]["value"]) == (None, float(first["entry_price"]))
    assert data["entry"]["time"] - 60 <= data["bars"][-1]["time"] <= data["entry"]["time"] + 60
    drawn = page.partition('<svg class="trade-picture"')[2].partition('class="chart-legend"')[0]
    assert [f'class="{kind}"' in drawn for kind in ("stop", "entry", "exit")] == [True, True, False]
    assert "<strong>Open</strong>" in page
    assert "Reason" not in page
    latest = page.partition("Closed at the latest</dt><dd>")[2][:5]
    assert re.fullmatch(r"\d\d:\d\d", latest)
    (order,) = trade_with_chart(home, first["id"])["open"]["orders"]
    assert f'<td class="n">{Decimal(order["price"]):.2f}</td>' in page.partition("Working orders")[2]
    assert trade_with_chart(home, first["id"])["open"]["stop"] == order["price"]


def test_a_trade_whose_bars_are_gone_keeps_its_figures(
    traded_app: ASGIApp, traded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason in place of the chart."""

    def gone(*_: object) -> None:
        raise DataError("The bars are gone.")

    first = trades_document(traded)["trades"][0]
    monkeypatch.setattr("tbot_core.status.trades.assembly_of_run", gone)
    page = shown(traded_app, f"/trades/{first['id']}")
    assert "No chart: The bars are gone." in page
    assert "trade-data" not in page
    assert "First stop" in page


def test_an_unknown_trade_or_session_is_said(traded_app: ASGIApp, traded: Path) -> None:
    """With status 400 and what to do."""
    assert "no trade 2026-01-01.open.X" in shown(traded_app, "/trades/2026-01-01.open.X", 400)
    assert "no session on 2020-01-02" in shown(traded_app, "/trades?date=2020-01-02", 400)
    with pytest.raises(UsageError):
        trade_with_chart(traded, "x")


def test_without_a_run_the_page_says_what_to_do(app: ASGIApp) -> None:
    """Not as a fault."""
    assert "<code>tbot run</code>" in shown(app, "/trades")


def test_the_policy_allows_exactly_the_style_of_the_chart_library() -> None:
    """The hash is that of the style in the vendored file, the only one in it."""
    library = (FOLDER / "static" / "vendor" / "lightweight-charts.standalone.production.js").read_text()
    (style,) = re.findall(r'createElement\("style"\),this\.\w+\.innerText="([^"]+)"', library)
    assert library.count('createElement("style")') == 1
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" == CHART_STYLE


@pytest.mark.parametrize("path", ["/trades", "/decisions", "/decisions/day"])
def test_before_the_first_session_a_page_says_what_to_do(
    tmp_path: Path, app_of: Callable[[Path], ASGIApp], path: str
) -> None:
    """An instance that has not run yet has a journal without a session: that is no fault."""
    assert cli.invoke(["init", "--paper", "--home", str(tmp_path / "bot")]) == 0
    answer = ask(app_of(tmp_path / "bot"), "GET", path, VIEWER)
    assert answer.status == 200
    assert "No session is recorded yet." in answer.text
