"""The figures of a report: defined where they mean something, and equal to an independent library's."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.model.json_document import parse_json
from tbot_core.model.types import ExitReason, Instrument, InstrumentKind, Side, Trade, stock
from tbot_core.reports import figures
from tbot_core.reports.figures import Exposure, TradingDay
from tbot_core.reports.summary import RunSummary

OPEN = dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
TABLE: Any = parse_json(Path(__file__).with_name("empyrical.json").read_text(encoding="utf-8"))

SUMMARY = RunSummary(
    mode="replay",
    sessions=1,
    symbols=1,
    equity_start=Decimal(1000),
    equity_end=Decimal(1000),
    trades=(),
    denials={},
    settings_hash="",
    data_hash="",
)


def trade(pnl: str, start: float = 0, end: float = 1, *, day: int = 0, cost: int = 1_000) -> Trade:
    """A trade of so many dollars, from and to hours after the open of a day."""
    opened = OPEN + dt.timedelta(days=day)
    return Trade(
        strategy="open",
        instrument=stock("AAPL"),
        side=Side.LONG,
        quantity=Decimal(10),
        entry_time=opened + HOUR * start,
        entry_price=Decimal(cost) / 10,
        exit_time=opened + HOUR * end,
        exit_price=Decimal(100),
        fees=Decimal("0.10"),
        pnl=Decimal(pnl),
        exit_reason=ExitReason.TIME,
    )


def day(opening: str, closing: str, number: int = 0) -> TradingDay:
    """A session of five hours."""
    opened = OPEN + dt.timedelta(days=number)
    return TradingDay(open=opened, close=opened + HOUR * 5, opening=Decimal(opening), closing=Decimal(closing))


@pytest.mark.parametrize("row", TABLE["rows"], ids=lambda row: f"{len(row['returns'])} days")
def test_ratios_equal_those_of_empyrical(row: dict[str, Any]) -> None:
    """Sharpe and Sortino ratio, volatility and maximum drawdown equal those of empyrical-reloaded to 1e-12."""
    returns = row["returns"]
    equity = [Decimal(1)]
    for one in returns:
        equity.append(equity[-1] * (1 + Decimal(one)))
    found = {
        "sharpe": figures.sharpe_ratio(returns),
        "sortino": figures.sortino_ratio(returns),
        "volatility": figures.annual_volatility(returns),
        "drawdown": figures.maximum_drawdown(equity),
    }
    for name, value in found.items():
        if row[name] is None:
            assert value is None, name
        else:
            assert value == pytest.approx(row[name], rel=1e-12, abs=1e-12), name


@given(st.lists(st.integers(-500, 500).filter(lambda basis: basis > -10_000), max_size=40))
def test_a_ratio_is_finite_or_undefined(basis_points: list[int]) -> None:
    """Whatever the returns, no ratio is NaN or infinite."""
    returns = [one / 10_000 for one in basis_points]
    ratios = (figures.sharpe_ratio, figures.sortino_ratio, figures.annual_volatility)
    for found in (ratio(returns) for ratio in ratios):
        assert found is None or math.isfinite(found)


@pytest.mark.parametrize("returns", [[], [0.01], [0.01, 0.01, 0.01], [0.0, 0.0]])
def test_returns_without_a_spread_have_no_ratio(returns: list[float]) -> None:
    """With fewer than two returns, or with equal ones, the Sharpe and Sortino ratios are undefined."""
    assert figures.sharpe_ratio(returns) is None
    assert figures.sortino_ratio(returns) is None


def test_figures_of_trades_follow_from_their_results() -> None:
    """Two winners, a loser and a trade at zero: each figure is its formula's."""
    found = figures.trade_figures([trade("30"), trade("-20"), trade("0"), trade("50")])
    assert (found.count, found.won, found.lost) == (4, 2, 1)
    assert (found.pnl, found.fees) == (Decimal(60), Decimal("0.40"))
    assert (found.win_rate, found.profit_factor) == (0.5, 4.0)
    assert (found.expectancy, found.average_win, found.average_loss) == (Decimal(15), Decimal(40), Decimal(-20))
    assert (found.largest_win, found.largest_loss) == (Decimal(50), Decimal(-20))


@pytest.mark.parametrize(
    ("pnl", "won", "lost"), [("0.005", 0, 0), ("-0.005", 0, 0), ("0.0051", 1, 0), ("-0.006", 0, 1)]
)
def test_a_trade_counts_as_it_is_shown(pnl: str, won: int, lost: int) -> None:
    """One that the table shows as 0.00 is neither won nor lost, in the figures and by strategy."""
    found, one = figures.trade_figures([trade(pnl)]), trade(pnl)
    assert (found.won, found.lost) == (won, lost)
    assert attrs.evolve(SUMMARY, trades=(one,)).by_strategy == {"open": (1, won, Decimal(pnl))}


ROUNDED = "Amounts are rounded to the cent: rows may add up to some cents more or less than their total."


@pytest.mark.parametrize(
    ("results", "start", "end", "rounded"),
    [
        (["1.00", "-0.50"], "1000", "1000.50", False),
        (["0.004", "0.004", "0.004"], "1000", "1000.012", True),
        (["0.004", "-0.004"], "1000", "1000", False),
        (["0.006"], "1000.006", "1000.012", True),
        ([], "1000.006", "1000.006", False),
    ],
)
def test_rows_that_miss_their_total_are_said_to_be_rounded(
    results: list[str], start: str, end: str, rounded: bool
) -> None:
    """A note says so where the shown profits, or the shown equity, add up to another sum; else there is none."""
    trades = tuple(map(trade, results))
    found = attrs.evolve(SUMMARY, trades=trades, equity_start=Decimal(start), equity_end=Decimal(end))
    assert (found.caveats == [ROUNDED], ROUNDED in found.document()["notes"]) == (rounded, rounded)


@pytest.mark.parametrize(("results", "factor", "rate"), [([], None, None), (["5"], None, 1.0), (["-5"], 0.0, 0.0)])
def test_a_figure_that_needs_what_is_missing_is_undefined(
    results: list[str], factor: float | None, rate: float | None
) -> None:
    """Without a losing trade there is no profit factor, without a trade no win rate."""
    found = figures.trade_figures([trade(result) for result in results])
    assert (found.profit_factor, found.win_rate) == (factor, rate)
    assert (found.average_win is None) == ("5" not in results)
    assert (found.average_loss is None) == ("-5" not in results)


def test_daily_returns_are_those_of_the_sessions() -> None:
    """Each session returns its equity at the close over that at the open, less one; one without equity returns none."""
    assert figures.daily_returns([day("100", "110"), day("110", "99"), day("0", "5")]) == pytest.approx([0.1, -0.1])


def test_a_drawdown_is_measured_from_the_highest_equity_before() -> None:
    """It is zero at a new high, and ends when the old high is reached again."""
    equity = [Decimal(one) for one in (100, 120, 90, 120, 60)]
    assert figures.drawdowns(equity) == pytest.approx([0, 0, -0.25, 0, -0.5])
    assert figures.maximum_drawdown(equity) == pytest.approx(-0.5)
    assert figures.maximum_drawdown([]) is None
    assert figures.drawdowns([Decimal(0)]) == [0.0]


def test_exposure_counts_each_minute_once_and_each_position_by_its_cost() -> None:
    """Overlapping positions are one hour in the market; their costs add up."""
    held = [trade("1", 0, 2), trade("1", 1, 3), trade("1", 4, 5, cost=2_000)]
    found = figures.exposure(held, [day("10000", "10003")])
    assert found.time == pytest.approx(4 / 5)
    assert found.equity == pytest.approx((2 * 0.1 + 2 * 0.1 + 1 * 0.2) / 5)


def test_a_position_held_overnight_counts_in_the_hours_of_the_sessions() -> None:
    """From its entry to the close, and from the next open to its exit; the night does not count."""
    found = figures.exposure([trade("1", 4, 24 + 2)], [day("10000", "10000"), day("0", "0", 1)])
    assert found.time == pytest.approx((1 + 2) / 10)
    assert found.equity == pytest.approx(0.1 * 1 / 10)


def test_the_price_of_a_put_is_that_of_one_of_its_shares() -> None:
    """Its cost is a hundred times as much."""
    put = Instrument(symbol="PUT", kind=InstrumentKind.PUT, underlying="AAPL", multiplier=100, leverage=Decimal(-4))
    days = [day("10000", "10000")]
    shares, contracts = (
        figures.exposure([one], days) for one in (trade("1"), attrs.evolve(trade("1"), instrument=put))
    )
    assert shares.equity is not None
    assert contracts.equity == pytest.approx(100 * shares.equity)


def test_no_session_has_no_exposure() -> None:
    """Without a session there is no time to have been in the market."""
    assert figures.exposure([trade("1")], []) == Exposure(time=None, equity=None)
