"""Earlier sessions of a journal say whether live money was traded, and which short signals were denied."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.journal import records
from tbot_core.journal.projections.earlier_sessions import DENIAL_SESSIONS, ShortDenials, has_traded_live, short_denials
from tbot_core.journal.store import NewEvent, open_journal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

NOW = dt.datetime(2026, 1, 5, 15, 0, tzinfo=dt.UTC)

FRIDAY, MONDAY = "2026-01-02", "2026-01-05"

FILL: tuple[str, dict[str, Any]] = ("fill", {})

Said = tuple[str, dict[str, Any]]


def run(mode: str) -> Said:
    """The start of a run."""
    return records.RUN_STARTED, {"mode": mode}


def opened(day: str, account: str = "U1", **others: str) -> Said:
    """A session of that account, and of others by broker name."""
    accounts = {name: {"account": one} for name, one in others.items()}
    return records.SESSION_OPENED, {"date": day, "account": account, "accounts": accounts}


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ((), False),
        ((FILL,), False),
        ((run("live"), opened(FRIDAY)), False),
        ((run("live"), opened(FRIDAY), FILL), True),
        ((run("paper"), opened(FRIDAY), FILL), False),
        ((opened(FRIDAY), FILL), False),
        ((run("paper"), opened(FRIDAY), FILL, run("live"), opened(MONDAY), FILL), False),
        ((run("live"), opened(FRIDAY, "U2"), FILL), False),
        ((run("live"), opened(FRIDAY, "U2", beta="U1"), FILL), False),
        ((run("live"), opened(FRIDAY, "U2", beta="U1"), ("fill", {"broker": "beta"})), True),
        ((run("live"), opened(FRIDAY), run("paper"), opened(FRIDAY, "P1"), FILL), False),
    ],
)
def test_a_fill_of_an_earlier_live_session_of_the_account_counts(
    tmp_path: Path, said: Sequence[Said], *, known: bool
) -> None:
    """Paper fills, fills of other accounts, sessions without a fill and those of the day itself do not."""
    with closing(open_journal(tmp_path / "run.sqlite")) as journal:
        journal.append([NewEvent(kind=kind, payload=payload, time=NOW) for kind, payload in said])
        assert has_traded_live(journal, "U1", dt.date(2026, 1, 5)) is known


MORNING = dt.datetime(2026, 11, 30, 13, 0, tzinfo=dt.UTC)

TODAY = dt.date(2026, 11, 30)

FUND, PUT = "SHORT_BY_FUND_UNAVAILABLE", "SHORT_BY_PUT_UNAVAILABLE"


def traded(day: int, *denied: tuple[str, str]) -> list[NewEvent]:
    """A session of November, with denials by strategy and reason."""
    date = f"2026-11-{day:02}"
    opened = NewEvent(kind=records.SESSION_OPENED, payload={"date": date}, time=MORNING)
    decided = [
        NewEvent(
            kind=records.DECISION,
            payload={
                "signal": {"session": date, "strategy": strategy, "symbol": "KO", "minute": 5, "rule": "break"},
                "reason": reason,
            },
            time=MORNING,
        )
        for strategy, reason in denied
    ]
    return [opened, *decided]


def found(folder: Path, sessions: Iterable[list[NewEvent]]) -> ShortDenials:
    """What a journal of these sessions says this morning."""
    with closing(open_journal(folder / "tbot.sqlite")) as journal:
        for events in sessions:
            journal.append(events)
        return short_denials(journal, TODAY)


def test_the_last_five_sessions_count(tmp_path: Path) -> None:
    """By strategy and value of SHORT_TYPE; older sessions, other reasons, other events and today do not count."""
    days = [
        traded(20, ("open", FUND)),
        traded(23, ("open", FUND), ("mid", FUND), ("open", "ALLOWED")),
        traded(24, ("open", FUND), ("close", PUT)),
        traded(25),
        traded(27, ("open", "SHORT_DISABLED")),
        traded(28, ("mid", FUND)),
        traded(30, ("mid", FUND)),
    ]
    denials = found(tmp_path, days)
    denials.apply(NewEvent(kind=records.SESSION_CLOSED, payload={}, time=MORNING))
    assert len(denials.sessions) == DENIAL_SESSIONS
    counts = [denials.denied(*one) for one in (("open", "InverseETF"), ("mid", "InverseETF"), ("close", "LongPut"))]
    assert counts == [2, 2, 1]
    assert denials.denied("close", "InverseETF") == 0


def test_a_session_that_was_opened_again_counts_once(tmp_path: Path) -> None:
    """A restart opens no further session."""
    denials = found(tmp_path, [traded(27, ("open", FUND)), traded(27), traded(27, ("open", FUND))])
    assert (list(denials.sessions), denials.denied("open", "InverseETF")) == (["2026-11-27"], 2)


def test_an_empty_journal_has_no_session(tmp_path: Path) -> None:
    """Before the first session nothing was denied."""
    denials = found(tmp_path, [])
    assert (len(denials.sessions), denials.denied("open", "InverseETF")) == (0, 0)
