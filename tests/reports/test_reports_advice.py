"""What a run says besides its figures."""

from __future__ import annotations

from decimal import Decimal

import attrs

from tbot_core.reports.advice import DenialAdvice
from tbot_core.reports.summary import RunSummary

EMPTY = RunSummary(
    mode="replay",
    sessions=3,
    symbols=2,
    equity_start=Decimal(1000),
    equity_end=Decimal(1000),
    trades=(),
    denials={"SHORT_DISABLED": 2},
    settings_hash="",
    data_hash="",
    notes=("Stored bars.",),
    strategies=("open", "close"),
    variables={"SHORT_TYPE_OPEN", "SHORT_TYPE_CLOSE", "STRAT_CLOSE_VIX_THRESHOLD"},
    without_candidates={"close": {"VIX_LOW": 1, "VIX_UNKNOWN": 1}},
)


def test_a_document_of_a_run_without_a_trade_says_what_changes_that() -> None:
    """The notes of the JSON document end with the same advice as the text, with commands that name no path."""
    advice = [
        "No trade. Denied most by SHORT_DISABLED, 2 times (SHORT_TYPE_OPEN, SHORT_TYPE_CLOSE).",
        "`tbot config edit` changes settings; `tbot config explain SHORT_TYPE_OPEN` shows the allowed values.",
    ]
    assert EMPTY.no_trade_advice() == advice
    assert EMPTY.document()["notes"] == [*EMPTY.caveats, *advice]


def test_a_strategy_without_candidates_is_named() -> None:
    """In how many sessions every symbol was denied before the bell, by which reasons, and what changes them."""
    assert EMPTY.caveats == [
        "Stored bars.",
        (
            "[CLOSE] had no candidates in 2 of 3 sessions: every symbol was denied before the bell, most by "
            "VIX_LOW (STRAT_CLOSE_VIX_THRESHOLD), VIX_UNKNOWN (import the daily VIX)."
        ),
    ]


def test_strategies_without_candidates_for_the_same_reason_share_a_sentence() -> None:
    """The reason of most sessions comes first."""
    causes = {"VIX_LOW": 1, "VOLUME_LOW": 2}
    alike = attrs.evolve(EMPTY, notes=(), without_candidates={"open": causes, "mid": causes}, variables=())
    assert alike.caveats == [
        (
            "[MID], [OPEN] had no candidates in 3 of 3 sessions: every symbol was denied before the bell, most by "
            "VOLUME_LOW, VIX_LOW."
        ),
    ]


def test_a_strategy_without_a_trade_is_named_where_others_traded() -> None:
    """All of them in one sentence, and none without one."""
    advice = DenialAdvice(strategies=("mid", "open"), variables=())
    assert advice.on_idle(["mid", "open"], 29) == [
        "[MID], [OPEN] made no trade in 29 sessions; `tbot why SYMBOL --date DATE` shows how near one came."
    ]
    assert advice.on_idle([], 29) == []


def test_a_reason_that_no_setting_changes_is_named_without_one() -> None:
    """A strategy without the setting of a reason leaves its name alone, and no command follows."""
    odd = attrs.evolve(EMPTY, denials={"VIX_LOW": 1}, strategies=("open",))
    assert odd.no_trade_advice() == ["No trade. Denied most by VIX_LOW, 1 time."]
