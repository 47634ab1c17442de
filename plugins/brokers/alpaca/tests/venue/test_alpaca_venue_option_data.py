"""Option contracts and their market data have the vendor's fields, filters, pages and refusals."""

from __future__ import annotations

import datetime as dt
import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from tbot_broker_alpaca.venue.options import Defect

with warnings.catch_warnings():  # alpaca-py uses a deprecated part of websockets
    warnings.simplefilter("ignore")
    from alpaca.data import requests as data_requests
    from alpaca.data.enums import OptionsFeed
    from alpaca.data.historical.option import OptionHistoricalDataClient
    from alpaca.trading import requests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.testing.scripted_server import ServerReply

CONTRACTS, SNAPSHOTS = "/v2/options/contracts", "/v1beta1/options/snapshots"
PUT = "AAPL260116P00020000"
STALE, CROSSED, EMPTY = "AAPL260116P00019000", "AAPL260116P00019500", "AAPL260116P00021000"


@pytest.fixture
def paid(opened: Callable[..., Any]) -> Any:
    """An account on the paid plan, in which options trade in pennies."""
    venue = opened(basic=False)
    venue.market.options.penny_classes["AAPL"] = True
    return venue


def symbols(reply: ServerReply) -> list[str]:
    """The symbols of a page of contracts."""
    document: Any = reply.document
    return [one["symbol"] for one in document["option_contracts"]]


def test_a_contract_is_written_as_the_vendor_writes_it(venue: Any) -> None:
    """A standard put: name, numbers as text, a hundred shares as its deliverable."""
    found = venue.get(f"{CONTRACTS}/{PUT}").document
    asset = venue.get("/v2/assets/AAPL").document["id"]
    assert found["name"] == "AAPL Jan 16 2026 20 Put"
    expected = {"status": "active", "tradable": True, "type": "put", "style": "american", "strike_price": "20"}
    expected |= {"expiration_date": "2026-01-16", "multiplier": "100", "size": "100", "root_symbol": "AAPL"}
    expected |= {"underlying_symbol": "AAPL", "underlying_asset_id": asset, "open_interest_date": "2026-01-02"}
    assert expected.items() <= found.items()
    [deliverable] = found["deliverables"]
    assert (deliverable["type"], deliverable["symbol"], deliverable["amount"]) == ("equity", "AAPL", "100")
    assert venue.get(f"{CONTRACTS}/{found['id']}").document == found


def test_a_contract_that_does_not_exist_is_not_found(venue: Any) -> None:
    """The vendor's example: 404 with its code and words; so is one that is gone."""
    reply = venue.get(f"{CONTRACTS}/TSLA231110C00021000")
    assert reply.status == 404
    assert reply.document == {"code": 40410000, "message": "option contract TSLA231110C00021000 not found"}
    venue.market.options.defects[PUT] = Defect.GONE
    assert venue.get(f"{CONTRACTS}/{PUT}").status == 404
    assert PUT not in symbols(venue.get(CONTRACTS, expiration_date="2026-01-16", limit="1000"))


def test_without_bounds_those_before_the_weekend_are_listed(venue: Any) -> None:
    """On a Monday these expire on Friday; there are 17 strikes from 16 to 24, calls and puts, of two stocks."""
    found = symbols(venue.get(CONTRACTS))
    assert {symbol.lstrip("AKLOP")[:6] for symbol in found} == {"260109"}
    assert len(found) == 2 * 17 * 2
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"underlying_symbols": "KO", "strike_price_gte": "24", "type": "call"}, ["KO260109C00024000"]),
        (
            {"expiration_date": "2026-02-20", "strike_price_lte": "16", "underlying_symbols": "AAPL"},
            ["AAPL260220C00016000", "AAPL260220P00016000"],
        ),
        (
            {"expiration_date_gte": "2026-01-17", "expiration_date_lte": "2026-01-30", "strike_price_gte": "23.6"}
            | {"type": "put", "underlying_symbols": "AAPL"},
            ["AAPL260123P00024000", "AAPL260130P00024000"],
        ),
        (
            {"root_symbol": "AAPL1", "expiration_date": "2026-01-16"},
            ["AAPL1260116C00020000", "AAPL1260116P00020000"],
        ),
        (
            {"status": "inactive", "strike_price_lte": "16", "type": "put", "underlying_symbols": "AAPL"},
            ["AAPL260102P00016000"],
        ),
        ({"style": "european"}, []),
        ({"underlying_symbols": "NOPE"}, []),
    ],
)
def test_contracts_are_filtered(venue: Any, query: dict[str, str], expected: list[str]) -> None:
    """By stock, expiry, strike, type, root, status and style."""
    assert symbols(venue.get(CONTRACTS, **query)) == expected


def test_contracts_of_the_penny_program_are_filtered(venue: Any) -> None:
    """The indicator is part of a contract."""
    venue.market.options.penny_classes |= {"AAPL": True, "KO": False}
    for wanted, stock in (("true", "AAPL"), ("false", "KO")):
        found = venue.get(CONTRACTS, ppind=wanted).document["option_contracts"]
        assert {(one["underlying_symbol"], one["ppind"]) for one in found} == {(stock, wanted == "true")}


def test_deliverables_are_listed_where_they_are_asked_for(venue: Any) -> None:
    """An adjusted contract delivers 110 shares for a hundred strikes, a small one ten for ten."""
    query = {"expiration_date": "2026-01-16", "type": "put", "strike_price_lte": "20", "strike_price_gte": "20"}
    query["underlying_symbols"] = "AAPL"
    assert "deliverables" not in venue.get(CONTRACTS, **query).document["option_contracts"][0]
    found = venue.get(CONTRACTS, **query, show_deliverables="true").document["option_contracts"]
    rows = {one["root_symbol"]: (one["multiplier"], one["size"], one["deliverables"][0]["amount"]) for one in found}
    assert rows == {"AAPL": ("100", "100", "100"), "AAPL1": ("100", "110", "110"), "AAPL7": ("10", "10", "10")}


def test_pages_of_contracts_make_the_list(venue: Any) -> None:
    """Each page names the next one, and the last one none; a token of another query is refused."""
    whole = symbols(venue.get(CONTRACTS))
    found: list[str] = []
    query: dict[str, str] = {"limit": "30"}
    while True:
        reply = venue.get(CONTRACTS, **query)
        found += symbols(reply)
        if reply.document["next_page_token"] is None:
            break
        query["page_token"] = reply.document["next_page_token"]
    assert found == whole
    assert venue.get(CONTRACTS, **query, type="put").status == 400
    venue.market.repeats_tokens = True
    assert venue.get(CONTRACTS, **query).document["next_page_token"] == query["page_token"]


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        (CONTRACTS, {"type": "straddle"}, 422),
        (CONTRACTS, {"expiration_date": "Friday"}, 422),
        (CONTRACTS, {"strike_price_gte": "low"}, 422),
        (CONTRACTS, {"limit": "10001"}, 422),
        (SNAPSHOTS, {}, 400),
        (SNAPSHOTS, {"symbols": ",".join([PUT] * 101)}, 400),
        (SNAPSHOTS, {"symbols": "AAPL"}, 400),
        (SNAPSHOTS, {"symbols": PUT, "feed": "sip"}, 400),
        (f"{SNAPSHOTS}/AAPL", {"expiration_date_gte": "soon"}, 400),
        ("/v1beta1/options/quotes", {"symbols": PUT}, 404),
    ],
)
def test_a_query_that_is_wrong_is_refused(venue: Any, path: str, query: dict[str, str], status: int) -> None:
    """The trading host answers 422, the data host 400."""
    assert venue.get(path, **query).status == status


def test_a_plan_without_option_data_has_the_indicative_feed(venue: Any) -> None:
    """The feed of the exchanges is refused in the vendor's words; without a feed the free one is sent."""
    for path in (SNAPSHOTS, f"{SNAPSHOTS}/AAPL", "/v1beta1/options/quotes/latest"):
        reply = venue.get(path, symbols=PUT, feed="opra")
        assert (reply.status, reply.document) == (403, {"message": "OPRA agreement is not signed"})
        free = venue.get(path, symbols=PUT, feed="indicative", limit="1000")
        assert free.status == 200
        assert venue.get(path, symbols=PUT, limit="1000").document == free.document


def test_a_paid_plan_has_both_feeds(paid: Any) -> None:
    """Indicative quotes are a tick wider each way and its trades 15 minutes old; the default is the exchanges'."""
    exact, free = (
        paid.get(SNAPSHOTS, symbols=PUT, feed=feed).document["snapshots"][PUT] for feed in ("opra", "indicative")
    )
    assert paid.get(SNAPSHOTS, symbols=PUT).document["snapshots"][PUT] == exact
    spreads = [round(one["latestQuote"]["ap"] - one["latestQuote"]["bp"], 2) for one in (exact, free)]
    assert spreads[1] == round(spreads[0] + 0.02, 2)
    times = [dt.datetime.fromisoformat(one["latestTrade"]["t"]) for one in (exact, free)]
    assert times[0] - times[1] == dt.timedelta(minutes=15)


def test_a_chain_is_filtered_and_sent_in_pages(paid: Any) -> None:
    """Snapshots of a stock by type, strike, expiry and root; one that is not known has none."""
    query = {"type": "put", "expiration_date": "2026-01-09", "strike_price_lte": "18"}
    first = paid.get(f"{SNAPSHOTS}/AAPL", **query, limit="3").document
    second = paid.get(f"{SNAPSHOTS}/AAPL", **query, limit="3", page_token=first["next_page_token"]).document
    found = [*first["snapshots"], *second["snapshots"]]
    assert found == [f"AAPL260109P000{strike}" for strike in ("16000", "16500", "17000", "17500", "18000")]
    assert second["next_page_token"] is None
    assert [*paid.get(f"{SNAPSHOTS}/AAPL", root_symbol="AAPL7").document["snapshots"]] == [
        *("AAPL7260116C00020000", "AAPL7260116P00020000")
    ]
    assert paid.get(f"{SNAPSHOTS}/NOPE").document["snapshots"] == {}


def test_snapshots_show_what_is_wrong_with_a_contract(paid: Any) -> None:
    """A crossed and a stale quote are as such; without a quote there are no Greeks either; a gone one has no row."""
    names = f"{PUT},{CROSSED},{STALE},{EMPTY}"
    found = paid.get(SNAPSHOTS, symbols=names).document["snapshots"]
    assert found[EMPTY] == {}
    assert found[CROSSED]["latestQuote"]["bp"] > found[CROSSED]["latestQuote"]["ap"]
    assert found[STALE]["latestQuote"]["t"] == "2026-01-02T21:00:00.000000000Z"
    assert -0.55 < found[PUT]["greeks"]["delta"] < -0.4
    assert found[PUT]["impliedVolatility"] == 0.35
    quotes = paid.get("/v1beta1/options/quotes/latest", symbols=names).document["quotes"]
    assert quotes == {symbol: row["latestQuote"] for symbol, row in found.items() if row}
    trades = paid.get("/v1beta1/options/trades/latest", symbols=names).document["trades"]
    assert trades == {symbol: row["latestTrade"] for symbol, row in found.items() if row}
    fresh = paid.get(SNAPSHOTS, symbols=names, updated_since="2026-01-05").document["snapshots"]
    assert sorted(fresh) == sorted([PUT, CROSSED])
    paid.market.options.defects[PUT] = Defect.GONE
    assert PUT not in paid.get(SNAPSHOTS, symbols=names).document["snapshots"]


def test_snapshots_follow_the_stock_by_the_minute(paid: Any) -> None:
    """A minute later and 2 % lower the put is dearer, by about half of what the stock has lost."""
    before = paid.get(SNAPSHOTS, symbols=PUT).document["snapshots"][PUT]["latestQuote"]
    paid.clock.advance(60)
    paid.trade("19.60")
    after = paid.get(SNAPSHOTS, symbols=PUT).document["snapshots"][PUT]["latestQuote"]
    assert after["t"] == "2026-01-05T15:01:00.000000000Z"
    assert 0.4 * 0.4 < after["bp"] - before["bp"] < 0.4 * 0.7


def test_alpaca_py_reads_contracts_and_chains(paid: Any) -> None:
    """The vendor's own client lists contracts, and has quote, trade and Greeks of a chain."""
    request = requests.GetOptionContractsRequest(underlying_symbols=["AAPL"], expiration_date=dt.date(2026, 1, 16))
    page = paid.ask(lambda: paid.trading.get_option_contracts(request))
    assert len(page.option_contracts) == 2 * 17 + 4
    assert paid.ask(lambda: paid.trading.get_option_contract(PUT)).strike_price == 20
    client = OptionHistoricalDataClient("a-key", "a-secret", url_override=paid.vendor.server.url)
    wanted = data_requests.OptionChainRequest(underlying_symbol="AAPL", feed=OptionsFeed.OPRA)
    chain = paid.ask(lambda: client.get_option_chain(wanted))
    assert chain[PUT].latest_quote.ask_price > chain[PUT].latest_quote.bid_price > 0
    assert chain[PUT].greeks.delta < 0
    latest = data_requests.OptionLatestQuoteRequest(symbol_or_symbols=[PUT])
    assert paid.ask(lambda: client.get_option_latest_quote(latest))[PUT].bid_size > 0


def test_documents_have_the_fields_of_saved_ones(paid: Any, shared: Path) -> None:
    """A16: contracts, quotes, trades and snapshots have each field of the vendor's saved replies."""
    folder = shared / "payloads" / "alpaca" / "alpaca-py-tests"
    if not folder.is_dir():
        pytest.skip(f"no saved replies at {folder}")
    rows = json.loads((folder / "test_option_routes.json").read_text())
    rows += json.loads((folder / "test_historical_option_data.json").read_text())
    saved = {one["test"]: one["payload"] for one in rows}
    ours = paid.get(f"{CONTRACTS}/{PUT}").document
    assert saved["test_get_option_contract"].keys() <= ours.keys()
    snapshot = paid.get(SNAPSHOTS, symbols=PUT).document["snapshots"][PUT]
    [theirs] = saved["test_get_snapshot"]["snapshots"].values()
    assert theirs.keys() == snapshot.keys()
    for part in ("greeks", "latestQuote", "latestTrade"):
        assert theirs[part].keys() == snapshot[part].keys()
