"""Positions under their share of equity, from the settings to `tbot why`: a session on the paper account."""

from __future__ import annotations

import json
from decimal import Decimal
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from tbot_core import cli
from tbot_core.alerts.rules import AlertRules, RoutineEvents
from tbot_core.journal import records
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.store import Event, read_journal
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Leg

if TYPE_CHECKING:
    from pathlib import Path


SETTINGS = """
REBALANCE_ENABLED=true
REBALANCE_TOP_UP={}
REBALANCE_THRESHOLD=0
REBALANCE_CHECK_INTERVAL=60
MAX_RISK_PER_TRADE=0.05
TOTAL_ALLOCATION=0.3
MAX_GROSS_EXPOSURE=0.9
STOP_LOSS_PCT=0.03
VOLUME_LIMIT=0
"""


def traded(home: Path, top_up: str) -> list[Event]:
    """The journal of a demo whose positions are held against their share each minute."""
    home.mkdir()
    settings = (files("tbot_core.instance") / "demo.env_bot").read_text(encoding="utf-8")
    (home / ".env_bot").write_text(settings + SETTINGS.format(top_up), encoding="utf-8")
    assert cli.invoke(["run", "--demo", "--sessions", "1", "--home", str(home)]) == 0
    (file,) = (home / "data" / "runs").glob("*.sqlite")
    journal = read_journal(file)
    found = list(journal.events())
    journal.close()
    return found


@pytest.mark.slow
def test_a_session_on_paper_tops_up_to_the_share_and_no_further(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Decided, recorded, filled, protected, shown and explained; MAX_TRADES and the trades are what they were."""
    home = tmp_path / "home"
    events = traded(home, "true")
    output = capsys.readouterr().out
    decided = {event.cid: event for event in events if event.kind == records.TOP_UP and event.cid is not None}
    orders = {
        event.cid: records.order_of(event.cid, event.payload)
        for event in events
        if event.kind == "intended" and event.cid
    }
    book = fold_events(events)
    filled = [cid for cid in decided if book.orders[cid].filled]
    assert filled
    assert all(orders[cid].tops_up and orders[cid].leg is Leg.ENTRY for cid in filled)
    assert book.allowed == sum(event.kind == "decision" and event.cid is not None for event in events)
    symbol = next(iter(decided.values())).payload["signal"]["symbol"]
    trade = next(one for one in book.trades if one.symbol == symbol)
    entry = next(one for one in orders.values() if one.symbol == symbol and one.leg is Leg.ENTRY)
    assert trade.quantity > entry.quantity > Decimal(0)
    assert any(" TOP-UP " in line and f" {symbol} @ " in line for line in output.splitlines())
    watch = AlertRules(RoutineEvents())
    said = [one.what for event in events for one in watch.apply(event)]
    assert any("] TOP-UP BUY " in text for text in said)
    assert cli.invoke(["why", symbol, "--home", str(home)]) == 0
    lines = capsys.readouterr().out
    assert "top-up at" in lines
    assert "order top-up buy" in lines or "order top-up sell" in lines
    assert cli.invoke(["why", symbol, "--home", str(home), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {one["signal"]["symbol"] for one in document["top_ups"]} == {symbol}
    denied = {event.payload["reason"] for event in events if event.kind == records.TOP_UP and event.cid is None}
    assert {Reason.TOP_UP_LOSING.name, Reason.TOP_UP_NEAR_EXIT.name} <= denied


@pytest.mark.slow
def test_without_the_switch_nothing_is_topped_up(tmp_path: Path) -> None:
    """REBALANCE_ENABLED alone trims."""
    events = traded(tmp_path / "home", "false")
    assert not [event for event in events if event.kind == records.TOP_UP]
    assert any(event.payload["reason"] == "REBALANCE" for event in events if event.kind == records.INTENDED)
