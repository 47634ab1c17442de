"""A journal whose sessions say something else than their fills is found out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.journal import codec, records
from tbot_core.journal.events.accounts import Adjustment
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.testing.ledger_check import unbalanced
from tbot_core.testing.trades import fill, order, session

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = order(limit="10")


def written(path: Path, cash: str, held: list[str], run: str = records.RUN_STARTED) -> Path:
    """The journal of a run that bought 100 shares at 10 of 10,000 USD, and closed with what is said."""
    said: list[tuple[str, dict[str, Any], str | None]] = [
        (run, {"equity": "10000"}, None),
        (records.INTENDED, codec.write(OrderIntended.of(ENTRY)), "entry"),
        ("fill", {"words": ""} | codec.write(Adjustment.of(fill(ENTRY, "10"))), "entry"),
        (records.SESSION_CLOSED, {"date": "2026-01-05", "cash": cash, "open": held}, None),
    ]
    journal = open_journal(path)
    journal.append([NewEvent(kind=kind, payload=payload, time=session().close, cid=cid) for kind, payload, cid in said])
    journal.close()
    return path


@pytest.mark.parametrize(
    ("cash", "held", "found"),
    [
        ("9000", ["AAA"], ""),
        ("9000.01", ["AAA"], "2026-01-05 closed with 9000.01 USD and ['AAA'], the ledger has 9000.00 USD and ['AAA']"),
        ("9000", [], "2026-01-05 closed with 9000 USD and [], the ledger has 9000.00 USD and ['AAA']"),
    ],
)
def test_i5_a_session_closes_with_what_the_ledger_has(tmp_path: Path, cash: str, held: list[str], found: str) -> None:
    """Cash to the last unit, and the symbols that are still held; what differs is named with both figures."""
    assert unbalanced(written(tmp_path / "journal", cash, held)) == found


def test_nothing_is_said_of_what_holds_no_run(tmp_path: Path) -> None:
    """A file that is no journal, a damaged one, and one without a run."""
    (tmp_path / "none").write_bytes(b"never a journal")
    assert unbalanced(tmp_path / "none") == ""
    assert unbalanced(written(tmp_path / "part", "1", [], run=records.SESSION_OPENED)) == ""
