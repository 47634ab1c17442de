"""How many short signals were denied in the last sessions for a SHORT_TYPE that is not available."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from typing import TYPE_CHECKING

from tbot_core.journal import records
from tbot_core.journal.projections.short_denials import SESSIONS, short_denials
from tbot_core.journal.store import NewEvent, open_journal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tbot_core.journal.projections.short_denials import ShortDenials

NOW = dt.datetime(2026, 11, 30, 13, 0, tzinfo=dt.UTC)
TODAY = dt.date(2026, 11, 30)
FUND, PUT = "SHORT_BY_FUND_UNAVAILABLE", "SHORT_BY_PUT_UNAVAILABLE"


def traded(day: int, *denied: tuple[str, str]) -> list[NewEvent]:
    """A session of November, with denials by strategy and reason."""
    date = f"2026-11-{day:02}"
    opened = NewEvent(kind=records.SESSION_OPENED, payload={"date": date}, time=NOW)
    decided = [
        NewEvent(
            kind=records.DECISION,
            payload={
                "signal": {"session": date, "strategy": strategy, "symbol": "KO", "minute": 5, "rule": "break"},
                "reason": reason,
            },
            time=NOW,
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
    denials.apply(NewEvent(kind=records.SESSION_CLOSED, payload={}, time=NOW))
    assert len(denials.sessions) == SESSIONS
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
