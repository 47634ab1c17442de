"""The venue's documents have every field of the vendor's saved replies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEFT_OUT = {
    "account": {"daytrade_count", "pattern_day_trader", "daytrading_buying_power"},
    "asset": {"last_close_pct_change", "last_price"},
    "position": {"usd"},
}
"""Fields that the vendor has retired, or sends to partners and for accounts in other currencies only."""


@pytest.fixture
def payloads(shared: Path) -> Path:
    """The vendor's saved replies."""
    folder = shared / "payloads" / "alpaca"
    if not folder.is_dir():
        pytest.skip(f"no saved replies at {folder}")
    return folder


def saved(folder: Path, field: str) -> Iterator[dict[str, Any]]:
    """The saved documents of equities and accounts with a field, from tests of alpaca-py and the OpenAPI examples."""
    files = sorted(folder.glob("alpaca-py-tests/test_*_routes.json"))
    for file in (*files, folder / "openapi-examples" / "trading-api.json"):
        for one in json.loads(file.read_text()):
            for document in one["payload"] if isinstance(one["payload"], list) else [one["payload"]]:
                if field in document and document.get("asset_class", "us_equity") == "us_equity":
                    yield document


@pytest.mark.parametrize(
    ("kind", "field"),
    [("account", "shorting_enabled"), ("asset", "fractionable"), ("position", "avg_entry_price"), ("order", "hwm")],
)
def test_a16_documents_have_the_fields_of_saved_ones(venue: Any, payloads: Path, kind: str, field: str) -> None:
    """A16: account, asset, position and order."""
    body = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"}
    venue.send("POST", "/v2/orders", body)
    venue.trade(20)
    paths = {"account": "/v2/account", "asset": "/v2/assets/AAPL", "position": "/v2/positions/AAPL"}
    ours = venue.get(paths.get(kind) or f"/v2/orders/{venue.account.orders[0].id}").document
    documents = [*saved(payloads, field)]
    assert documents
    for document in documents:
        assert sorted(document.keys() - LEFT_OUT.get(kind, set()) - ours.keys()) == []


def test_a16_bars_quotes_and_snapshots_have_the_fields_of_saved_ones(venue: Any, payloads: Path) -> None:
    """A16: market data of stocks."""
    rows = json.loads((payloads / "alpaca-py-tests" / "test_historical_stock_data.json").read_text())
    found = {one["test"]: one["payload"] for one in rows}
    query = {"symbols": "AAPL", "timeframe": "1Day", "feed": "iex", "start": "2025-12-01"}
    ours = venue.get("/v2/stocks/bars", **query).document["bars"]["AAPL"][0]
    assert found["test_get_bars"]["bars"]["AAPL"][0].keys() == ours.keys()
    for kind, test in (("quotes", "test_get_latest_quote"), ("trades", "test_get_latest_trade")):
        ours = venue.get(f"/v2/stocks/{kind}/latest", symbols="AAPL").document[kind]["AAPL"]
        assert found[test][kind]["AAPL"].keys() == ours.keys()
    ours = venue.get("/v2/stocks/snapshots", symbols="AAPL").document["AAPL"]
    for part, document in found["test_get_snapshot"]["AAPL"].items():
        assert document.keys() == ours[part].keys(), part
