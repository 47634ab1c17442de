"""Whether an account has traded live before, from a journal that also holds paper sessions and other accounts."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.journal import records
from tbot_core.journal.projections.live_days import has_traded_live
from tbot_core.journal.store import NewEvent, open_journal

if TYPE_CHECKING:
    from collections.abc import Sequence
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
