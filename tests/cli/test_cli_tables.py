"""Tables and sentences fit the terminal."""

from __future__ import annotations

import datetime as dt
import sys
from decimal import Decimal
from pathlib import Path

import attrs
import click
import pytest

from tbot_core.actions.checks import check_outcome
from tbot_core.cli.run_text import backtest_lines
from tbot_core.cli.tables import text_table, trade_table, wrap_sentence
from tbot_core.model.formatting import MINUS
from tbot_core.model.types import ExitReason, Side, Trade, stock
from tbot_core.reports.summary import RunSummary
from tbot_core.system import terminal

MORNING = dt.datetime(2026, 3, 2, 14, 54, tzinfo=dt.UTC)
FIRST = Trade(
    strategy="close",
    instrument=stock("BREMT"),
    side=Side.SHORT,
    quantity=Decimal("36.609"),
    entry_time=MORNING,
    entry_price=Decimal("31.23"),
    exit_time=MORNING + dt.timedelta(minutes=36),
    exit_price=Decimal("31.6548"),
    fees=Decimal("0.03"),
    pnl=Decimal("-12.47"),
    exit_reason=ExitReason.TRAILING_STOP,
)
TRADES = [
    FIRST,
    attrs.evolve(FIRST, instrument=stock("INGTA"), exit_price=Decimal(32), exit_reason=ExitReason.TIME),
    attrs.evolve(FIRST, instrument=stock("VALDO"), entry_time=MORNING + dt.timedelta(days=1), pnl=Decimal(1)),
]


def lines(width: int | None, *, several: bool = False) -> list[str]:
    """The trades without colours."""
    trades = [attrs.evolve(one, broker="alpaca") for one in TRADES]
    return [click.unstyle(line) for line in trade_table(trades, width, several=several)]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("width", [30, 40, 60, 80, 90, 120, 200])
def test_trades_fit_the_terminal(width: int, several: bool) -> None:
    """No line is wider than the terminal, every trade has one, and it begins or ends with what counts most.

    Where there were several brokers each line names its own, however narrow it is.
    """
    output = lines(width, several=several)
    assert all(len(line) <= width for line in output)
    assert sum("alpaca" in line for line in output) == (len(TRADES) if several else 0)
    for trade in TRADES:
        (line,) = (one for one in output if trade.symbol in one)
        assert line.endswith((f"{MINUS}12.47", "+1.00"))


def test_at_eighty_columns_only_dates_and_long_words_move() -> None:
    """The session stands once above its trades, the reason is said shortly, and all else is there."""
    assert lines(80)[:3] == [
        "  strategy  symbol  side   shares  entry     at  exit        at  why       P&L",
        "  2026-03-02",
        f"  close     BREMT   short  36.609  09:54  31.23  10:30  31.6548  trail  {MINUS}12.47",
    ]
    assert lines(80)[4] == "  2026-03-03"


@pytest.mark.parametrize("width", [None, 120, 200])
def test_where_there_is_room_nothing_is_left_out(width: int | None) -> None:
    """On a wide terminal, and where none is, each line has its date and the whole reason."""
    assert lines(width) == lines(None)
    assert lines(None)[1].startswith("  03-02    close")
    assert "trailing stop" in lines(None)[1]


def test_prices_of_a_column_stand_under_each_other() -> None:
    """All exits have four decimals where one needs them."""
    assert "32.0000" in lines(None)[2]
    assert "31.23 " in lines(None)[2]


def test_a_sentence_is_broken_between_words() -> None:
    """What is longer than the terminal goes on beneath, a little to the right; without a terminal it stays whole."""
    sentence = "  Prices, volumes, capitalisation and VIX are simulated; companies and symbols are fictitious."
    output = list(wrap_sentence(sentence, 40))
    assert output[0] == "  Prices, volumes, capitalisation and"
    assert all(line.startswith("    ") and len(line) <= 40 for line in output[1:])
    assert " ".join(line.strip() for line in output) == sentence.strip()
    assert list(wrap_sentence(sentence, None)) == [sentence]
    assert list(wrap_sentence(sentence, 20)) == [sentence]


def test_the_last_cell_goes_on_under_itself() -> None:
    """A sentence in a table is broken between words, as wide as its column is."""
    output = list(
        text_table(("count", "reason", ""), [("8", "MAX_TRADES", "Orders of the window have been sent.")], "nlw", 50)
    )
    assert output[1:] == [
        "      8  MAX_TRADES  Orders of the window have",
        "                     been sent.",
    ]
    assert len(list(text_table(("count", ""), [("8", "")], "nw", 50))) == 2


def test_what_is_no_terminal_has_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that go to a file or a pipe are as long as they are; on a terminal COLUMNS may say how wide it is."""
    assert terminal.columns() is None
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "93")
    assert terminal.columns() == 93


EMPTY = RunSummary(
    mode="backtest",
    sessions=1,
    symbols=1,
    equity_start=Decimal(1000),
    equity_end=Decimal(1000),
    trades=(),
    denials={},
    settings_hash="",
    data_hash="",
    strategies=("open", "mid"),
    variables={
        "FILTER_MISSING_DATA",
        "MAX_MARKET_CAP_OPEN",
        "MAX_MARKET_CAP_MID",
        "MIN_PRICE",
        "STRAT_MID_VIX_THRESHOLD",
    },
)


@pytest.mark.parametrize(
    ("denials", "expected"),
    [
        (
            {"MARKET_CAP_UNKNOWN": 90, "MARKET_CAP_HIGH": 12, "PRICE_LOW": 3, "SPREAD_WIDE": 2},
            [
                (
                    "No trade. Denied most by MARKET_CAP_UNKNOWN, 90 times (import fundamentals or "
                    "FILTER_MISSING_DATA); MARKET_CAP_HIGH, 12 times (MAX_MARKET_CAP_OPEN, MAX_MARKET_CAP_MID); "
                    "PRICE_LOW, 3 times (MIN_PRICE)."
                ),
                (
                    "`tbot data import PATH --home x` imports data; `tbot config edit --home x` changes settings; "
                    "`tbot config explain FILTER_MISSING_DATA --home x` shows the allowed values."
                ),
            ],
        ),
        (
            {"VIX_UNKNOWN": 1},
            [
                "No trade. Denied most by VIX_UNKNOWN, 1 time (import the daily VIX).",
                "`tbot data import PATH --home x` imports data.",
            ],
        ),
        (
            {"ALREADY_HELD": 1},
            [
                (
                    "No trade. Most denials: ALREADY_HELD, 1 time. A symbol has one position at a time. "
                    "`tbot run --replay FROM..TO --home x`, then `tbot why SYMBOL --home x` explains it."
                ),
            ],
        ),
        (
            {"HALTED": 2, "VIX_LOW": 1},
            [
                "No trade. Denied most by HALTED, 2 times; VIX_LOW, 1 time (STRAT_MID_VIX_THRESHOLD).",
                (
                    "`tbot config edit --home x` changes settings; `tbot config explain STRAT_MID_VIX_THRESHOLD "
                    "--home x` shows the allowed values; `tbot kill --clear --home x` ends the halt."
                ),
            ],
        ),
        (
            {},
            [
                (
                    "No trade: no strategy had a signal; `tbot run --replay FROM..TO --home x`, then `tbot why SYMBOL "
                    "--home x` shows the nearest."
                )
            ],
        ),
    ],
)
def test_a_backtest_without_a_trade_names_what_denied_most(denials: dict[str, int], expected: list[str]) -> None:
    """Up to three reasons that denied most are named, with the settings, data and commands that change them."""
    lines = list(backtest_lines(attrs.evolve(EMPTY, denials=denials), None, Path("x")))
    assert [line for line in lines if line.startswith(("No ", "`tbot "))] == expected


def test_only_a_run_without_a_trade_names_settings() -> None:
    """Where something was traded, or no session was, nothing is said of settings."""
    for summary in (
        attrs.evolve(EMPTY, trades=(FIRST,), strategies=(FIRST.strategy,)),
        attrs.evolve(EMPTY, sessions=0),
    ):
        text = "\n".join(backtest_lines(summary, None))
        assert "No trade" not in text
        assert summary.document()["notes"] == []


def test_the_outcome_of_a_check_counts_its_rows() -> None:
    """One sentence says whether the check passed, and counts failures, warnings and sound rows."""
    assert check_outcome(["warn", "ok", "ok"]) == "`tbot check` passed: 2 ok, 1 warning."
    assert check_outcome(["note", "ok", "note"]) == "`tbot check` passed: 1 ok, 2 notes, 0 warnings."
    assert check_outcome(["fail", "warn", "warn", "ok"]) == "`tbot check` failed: 1 failure, 1 ok, 2 warnings."
