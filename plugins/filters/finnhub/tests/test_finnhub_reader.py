"""What the plugin asks Finnhub for over a real connection, judged by the vendor's own file, and each kind of answer."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import re
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tbot_filter_finnhub import ADDRESS, NEEDS, Config, FinnhubCredentials, create, parse
from tbot_filter_finnhub.filter import FinnhubFilter
from tbot_filter_finnhub.venue import KEY, FinnhubVenue, FundamentalsServer, company, open_venue

from tbot_core.contracts.credentials import secret_fields
from tbot_core.errors import LoginNeeded, Rejected, Unavailable
from tbot_core.model import json_document
from tbot_core.model.clock import ManualClock
from tbot_core.system.secret import Secret
from tbot_core.testing.fetching import FetchingContract
from tbot_core.testing.scripted_server import ScriptedServer, ServerFault, ServerReply, context
from tbot_core.vault.schemas import check_content

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from pathlib import Path

    from tbot_core.testing.scripted_server import ServerRequest

pytestmark = pytest.mark.usefixtures("loopback")

DAY = dt.date(2026, 11, 24)
METRIC, EARNINGS = "/stock/metric", "/calendar/earnings"


@attrs.frozen(kw_only=True)
class Finnhub:
    """The filter and the server that it reads from."""

    filter: FinnhubFilter
    server: ScriptedServer
    vendor: FundamentalsServer

    async def refresh(self, *symbols: str, day: dt.date = DAY) -> Any:
        """The facts of these symbols."""
        return await self.filter.refresh(day, symbols)


@asynccontextmanager
async def finnhub(
    folder: Path, *, blackout: bool = True, timeout_s: float = 5.0, **secrets: Any
) -> AsyncIterator[Finnhub]:
    """The filter at a server with the companies AAA and BBB; BBB reports two days later."""
    clock = ManualClock(dt.datetime(2026, 11, 24, 13, tzinfo=dt.UTC))
    vendor = FundamentalsServer(clock, companies={"AAA": company(), "BBB": company(pe=None)})
    vendor.reports = {"BBB": DAY + dt.timedelta(days=2), "ZZZ": DAY}
    async with ScriptedServer(vendor.answer) as server:
        key = FinnhubCredentials(**{"api_key": Secret(KEY), **secrets})
        given = context(
            server,
            hosts=NEEDS.hosts,
            secrets={"screener_api": key},
            clock=clock,
            folder=folder,
            timeout_s=timeout_s,
        )
        try:
            yield Finnhub(filter=create(Config(earnings_blackout=blackout), given), server=server, vendor=vendor)
        finally:
            await given.connect.close()


@pytest.fixture
def at_finnhub(tmp_path: Path) -> Callable[..., Any]:
    """Runs a coroutine function on the filter at its server; returns its result."""

    def run(script: Callable[[Finnhub], Coroutine[Any, Any, Any]], **options: Any) -> Any:
        async def main() -> Any:
            async with finnhub(tmp_path, **options) as there:
                return await script(there)

        return asyncio.run(main())

    return run


class TestFetching(FetchingContract):
    """The contract of filters that fetch, at the plugin's own server."""

    @pytest.fixture
    def venue(self) -> Iterator[FinnhubVenue]:
        """The server with two companies."""
        with open_venue() as found:
            yield found


def parameters(document: str, path: str) -> dict[str, tuple[bool, str]]:
    """The query parameters of a GET in the vendor's file: whether each is required, and its format or type."""
    block = re.search(rf"(?ms)^  {re.escape(path)}:\n    get:\n(.*?)(?=^  /|^\S)", document)
    assert block is not None, f"the file has no GET {path}"
    found: dict[str, tuple[bool, str]] = {}
    listed = block[1].partition("      parameters:\n")[2].partition("      responses:\n")[0]
    for one in re.split(r"(?m)^      - ", listed)[1:]:
        fields: dict[str, str] = dict(re.findall(r"(?m)^\s*(in|name|required|type|format): (\S+)$", one))
        assert fields["in"] == "query"
        found[fields["name"]] = (fields.get("required") == "true", fields.get("format", fields["type"]))
    return found


def faults(document: str, request: ServerRequest) -> list[str]:
    """What the vendor's file does not allow in a request."""
    known = parameters(document, request.path)
    found = [f"{name} is no parameter" for name in request.query.keys() - known.keys()]
    found += [f"{name} is missing" for name, (required, _) in known.items() if required and name not in request.query]
    dates = [request.query[name] for name, (_, kind) in known.items() if kind == "date" and name in request.query]
    found += [f"{text} is no date" for text in dates if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text)]
    return found if request.method == "GET" else [*found, f"{request.method} is not allowed"]


@pytest.fixture(scope="module")
def specification(shared: Path) -> str:
    """The vendor's OpenAPI file."""
    path = shared / "specs" / "finnhub" / "openapi.yaml"
    if not path.exists():
        pytest.skip(f"no file of the vendor at {path}")
    return path.read_text()


def test_each_request_is_allowed_by_the_vendors_file(at_finnhub: Callable[..., Any], specification: str) -> None:
    """With its required parameters, and none that the file does not know; its address is that of the file."""

    async def script(there: Finnhub) -> list[ServerRequest]:
        await there.refresh("AAA", "BRK.B")
        return there.server.requests

    requests = at_finnhub(script)
    assert {request.path for request in requests} == {METRIC, EARNINGS}
    assert [faults(specification, request) for request in requests] == [[]] * 3
    assert f"servers:\n- url: {ADDRESS}\n" in specification
    wrong = attrs.evolve(requests[0], query={"from": "24/11/2026", "until": "x"})
    assert sorted(faults(specification, wrong)) == ["24/11/2026 is no date", "until is no parameter"]
    assert faults(specification, attrs.evolve(requests[1], query={})) == ["symbol is missing", "metric is missing"]


def test_one_request_a_symbol_and_one_for_the_calendar(at_finnhub: Callable[..., Any]) -> None:
    """Also over several batches of a morning; without EARNINGS_BLACKOUT there is none for the calendar."""

    async def script(there: Finnhub) -> list[str]:
        await there.refresh("AAA", "BBB")
        await there.refresh("CCC")
        await there.refresh("AAA", day=DAY + dt.timedelta(days=1))
        return [request.target for request in there.server.requests]

    assert at_finnhub(script) == [
        f"{EARNINGS}?from=2026-11-24&to=2026-11-29",
        *(f"{METRIC}?symbol={symbol}&metric=all" for symbol in ("AAA", "BBB", "CCC")),
        f"{EARNINGS}?from=2026-11-25&to=2026-11-30",
        f"{METRIC}?symbol=AAA&metric=all",
    ]
    assert not any(EARNINGS in target for target in at_finnhub(script, blackout=False))


def test_the_facts_of_each_symbol(at_finnhub: Callable[..., Any]) -> None:
    """Without a report in the calendar the next one is later than what was read; an unknown symbol has no facts."""
    found = at_finnhub(lambda there: there.refresh("AAA", "BBB", "NOPE"))
    assert found == {
        "AAA": {
            "pe_ratio": 20.0,
            "debt_to_equity": 0.5,
            "market_cap": 5e9,
            "earnings_date": parse.day_number(DAY + dt.timedelta(days=6)),
        },
        "BBB": {
            "debt_to_equity": 0.5,
            "market_cap": 5e9,
            "earnings_date": parse.day_number(DAY + dt.timedelta(days=2)),
        },
        "NOPE": {},
    }


def test_listed_funds_cost_no_request(at_finnhub: Callable[..., Any]) -> None:
    """They have no fundamentals, and nothing is compared for them."""

    async def script(there: Finnhub) -> Any:
        found = await there.refresh("SPY", "AAA", "QQQ")
        return found.keys(), [request.query["symbol"] for request in there.server.requests]

    assert at_finnhub(script, blackout=False) == ({"AAA"}, ["AAA"])


def test_f1_f5_it_reads_no_quote(at_finnhub: Callable[..., Any]) -> None:
    """A quote of zeros or of last week cannot mislead it: prices come from the feed."""

    async def script(there: Finnhub) -> set[str]:
        await there.refresh("AAA", "NOPE")
        return {request.path for request in there.server.requests}

    assert at_finnhub(script) == {METRIC, EARNINGS}


@pytest.mark.parametrize("status", [200, 403, 401])
@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        (EARNINGS, {"pe_ratio", "debt_to_equity", "market_cap"}),
        (METRIC, {"earnings_date"}),
    ],
)
def test_f2_no_access_to_one_endpoint_leaves_the_others(
    at_finnhub: Callable[..., Any], refused: str, expected: set[str], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What it would have given stays unknown, and a warning is logged once."""

    async def script(there: Finnhub) -> Any:
        there.vendor.no_access[refused] = status
        return [await there.refresh("AAA", "CCC"), await there.refresh("BBB")]

    with caplog.at_level(logging.WARNING):
        first, second = at_finnhub(script)
    assert first["AAA"].keys() == second["BBB"].keys() | ({"pe_ratio"} if refused == EARNINGS else set()) == expected
    assert caplog.text.count("finnhub.no_access") == 1
    assert refused in caplog.text


def test_f2_no_access_to_one_symbol_leaves_the_others(at_finnhub: Callable[..., Any]) -> None:
    """A listing that the plan does not include is unknown."""

    async def script(there: Finnhub) -> Any:
        there.vendor.no_access["CCC"] = 403
        return await there.refresh("AAA", "CCC")

    found = at_finnhub(script, blackout=False)
    assert (found["AAA"]["pe_ratio"], found["CCC"]) == (20.0, {})


def test_f2_no_access_to_anything_is_a_fault(at_finnhub: Callable[..., Any]) -> None:
    """Nothing is taken for known to be unknown: READY quotes Finnhub's words instead."""

    async def script(there: Finnhub) -> Any:
        there.vendor.no_access |= {METRIC: 403, EARNINGS: 200}
        await there.refresh("AAA")

    with pytest.raises(Rejected, match=r"no access to /calendar/earnings: You don't.*; /stock/metric: .*the plan"):
        at_finnhub(script)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ({}, None),
        (None, None),
        ({"beta": 1.2}, {}),
        ({"peTTM": None, "totalDebt/totalEquityQuarterly": "0.5", "marketCapitalization": True}, {}),
        ({"peTTM": -4.5, "totalDebt/totalEquityQuarterly": -1.5, "marketCapitalization": 0}, {}),
        ({"peAnnual": 12}, {}),
        ({"peExclExtraTTM": 12, "totalDebt/totalEquityAnnual": 2}, {"pe_ratio": 12.0, "debt_to_equity": 2.0}),
        (
            {"peTTM": 11, "peExclExtraTTM": 12, "totalDebt/totalEquityQuarterly": 0},
            {"pe_ratio": 11, "debt_to_equity": 0},
        ),
    ],
)
def test_f3_a_missing_metric_is_unknown(metric: Any, expected: dict[str, float] | None) -> None:
    """So is a P/E of a company that lost money, and a ratio to negative equity; nothing is guessed from other years."""
    document = json_document.parse_json(b'{"metricType": "all", "symbol": "A"}')
    assert parse.company_facts({**document, "metric": metric}) == expected


def test_f4_capitalisation_is_given_in_millions(at_finnhub: Callable[..., Any]) -> None:
    """4,535,749.5 million are 4.5 trillion USD."""

    async def script(there: Finnhub) -> Any:
        there.vendor.companies["AAA"]["marketCapitalization"] = 4535749.5
        return (await there.refresh("AAA"))["AAA"]["market_cap"]

    assert at_finnhub(script) == 4_535_749_500_000.0


def test_recorded_answers_parse(at_finnhub: Callable[..., Any], shared: Path) -> None:
    """The vendor's own answer for a company, over the wire; both of its answers agree on the capitalisation."""
    folder = shared / "payloads" / "finnhub"
    if not folder.exists():
        pytest.skip(f"no recorded answers at {folder}")
    recorded = (folder / "metric-AAPL.json").read_bytes()
    profile = json_document.parse_json((folder / "profile-AAPL.json").read_bytes())

    async def script(there: Finnhub) -> Any:
        there.server._handler = lambda _request: ServerReply(body=recorded)
        return await there.refresh("AAPL")

    facts = at_finnhub(script, blackout=False)["AAPL"]
    assert facts == {"pe_ratio": 37.0039, "debt_to_equity": 0.7955, "market_cap": 4_535_749_500_000.0}
    assert facts["market_cap"] / 1e6 == pytest.approx(float(profile["marketCapitalization"]), rel=1e-6)
    assert profile["currency"] == "USD"


@pytest.mark.parametrize("document", [{"earningsCalendar": []}, {"earningsCalendar": None}, {}])
def test_a_week_without_any_report_is_not_believed(
    at_finnhub: Callable[..., Any], document: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Dates are unknown then, and the log says so."""

    async def script(there: Finnhub) -> Any:
        metrics = there.server._handler
        there.server._handler = lambda request: (
            ServerReply(document=document) if request.path == EARNINGS else metrics(request)
        )
        return await there.refresh("AAA")

    with caplog.at_level(logging.WARNING):
        assert "earnings_date" not in at_finnhub(script)["AAA"]
    assert "finnhub.no_reports" in caplog.text


def test_rows_that_cannot_be_read_are_left_out() -> None:
    """The others count; of two reports of a symbol the next one, and none that is past."""
    rows: list[Any] = [None, {}, {"symbol": "A", "date": "soon"}, {"symbol": 5, "date": "2026-11-25"}]
    rows += [{"symbol": "A", "date": f"2026-11-{number}"} for number in (28, 26, 27, 23)]
    reports = parse.report_dates({"earningsCalendar": rows})
    assert parse.next_reports(reports, DAY) == {"A": dt.date(2026, 11, 26)}


def test_an_answer_that_may_be_cut_is_read_in_halves(at_finnhub: Callable[..., Any]) -> None:
    """In a season of reports no company is missed; a half that is refused leaves the dates unknown."""

    async def script(there: Finnhub) -> Any:
        days = [DAY + dt.timedelta(days=number % 5) for number in range(2000)]
        there.vendor.reports = {f"C{number}": date for number, date in enumerate(days)}
        found = await there.refresh("AAA", "C0", "C5", "C1999")
        return found, [request.target for request in there.server.requests if request.path == EARNINGS]

    found, asked = at_finnhub(script)
    dates = {symbol: facts["earnings_date"] - parse.day_number(DAY) for symbol, facts in found.items()}
    assert dates == {"AAA": 6.0, "C0": 0.0, "C5": 0.0, "C1999": 4.0}
    assert asked[0] == f"{EARNINGS}?from=2026-11-24&to=2026-11-29"
    assert len(asked) == 5


def test_what_was_read_before_a_failure_is_not_read_again(at_finnhub: Callable[..., Any]) -> None:
    """A slow service ends a call too early; the next call goes on where it ended."""

    async def script(there: Finnhub) -> Any:
        there.server.fail(ServerFault.SERVER_ERROR, path=METRIC)
        there.server._faults.insert(0, (ServerFault.MORE_FIELDS, "", METRIC, 1))
        with pytest.raises(Unavailable, match="503"):
            await there.refresh("AAA", "BBB")
        found = await there.refresh("AAA", "BBB")
        return found, [request.query.get("symbol", "") for request in there.server.requests]

    found, asked = at_finnhub(script)
    assert found.keys() == {"AAA", "BBB"}
    assert asked == ["", "AAA", "BBB", "BBB"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (ServerFault.SERVER_ERROR, "503"),
        (ServerFault.LOST_REPLY, "tested plugin"),
        (ServerFault.UNREADABLE, "cannot be read"),
        (ServerFault.EMPTY, "cannot be read"),
    ],
)
def test_a_failure_is_unavailable(at_finnhub: Callable[..., Any], fault: ServerFault, words: str) -> None:
    """The core asks again in this morning."""

    async def script(there: Finnhub) -> Any:
        there.server.fail(fault)
        await there.refresh("AAA")

    with pytest.raises(Unavailable, match=words):
        at_finnhub(script)


def test_no_answer_is_unavailable(at_finnhub: Callable[..., Any]) -> None:
    """After API_TIMEOUT."""

    async def script(there: Finnhub) -> Any:
        there.server.fail(ServerFault.NO_REPLY)
        await there.refresh("AAA")

    with pytest.raises(Unavailable, match=r"no answer within 0\.2 s"):
        at_finnhub(script, timeout_s=0.2)


def test_an_answer_that_is_no_object_is_unavailable(at_finnhub: Callable[..., Any]) -> None:
    """A list, or text."""

    async def script(there: Finnhub) -> Any:
        there.server._handler = lambda _request: ServerReply(document=[])
        await there.refresh("AAA")

    with pytest.raises(Unavailable, match="/calendar/earnings without an object"):
        at_finnhub(script)


def test_too_many_requests_ask_for_a_pause(at_finnhub: Callable[..., Any]) -> None:
    """Retry-After reaches the core."""

    async def script(there: Finnhub) -> Any:
        there.vendor.times = [there.vendor.clock.monotonic()] * 60
        await there.refresh("AAA")

    with pytest.raises(Unavailable, match="429") as found:
        at_finnhub(script)
    assert found.value.retry_after_s == 60.0


def test_a_refused_key_says_what_to_do(at_finnhub: Callable[..., Any]) -> None:
    """Once: no further request is sent."""
    asked: list[int] = []

    async def script(there: Finnhub) -> Any:
        there.vendor.key = "another"
        try:
            await there.refresh("AAA", "BBB")
        finally:
            asked.append(len(there.server.requests))

    with pytest.raises(LoginNeeded, match=r"refused the API key \(401\): .*`tbot secrets set screener_api`"):
        at_finnhub(script)
    assert asked == [1]


def test_the_key_is_in_the_header_and_nowhere_else(
    at_finnhub: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Not in an address, a log or an error, also where the vendor's own words repeat it."""

    async def script(there: Finnhub) -> list[str]:
        await there.refresh("AAA")
        requests = [*there.server.requests]
        assert {request.headers["x-finnhub-token"] for request in requests} == {KEY}
        shown = [request.target for request in requests]
        for status in (403, 401, 500):
            reply = ServerReply(status=status, document={"error": f"the key {KEY}"})
            there.server._handler = partial(_always, reply)
            try:
                await there.refresh("AAA", day=DAY + dt.timedelta(days=status))
            except (Rejected, Unavailable) as fault:
                shown += [str(fault), repr(fault.__cause__), repr(fault.__context__)]
        return [*shown, repr(there.filter)]

    with caplog.at_level(logging.DEBUG):
        shown = at_finnhub(script)
    assert KEY not in "\n".join([*shown, caplog.text])


def _always(reply: ServerReply, _request: ServerRequest) -> ServerReply:
    return reply


@pytest.mark.parametrize(
    ("address", "fits"),
    [(ADDRESS, True), (f"{ADDRESS}/", True), ("https://example.com", False), ("http://127.0.0.1:9/api/v1", False)],
)
def test_only_the_vendors_own_address_may_be_stored(address: str, *, fits: bool) -> None:
    """A plugin reaches the host that it declares; the error names the setting for a server on this machine."""
    content = memoryview(json.dumps({"finnhub": {"api_key": KEY, "base_url": address}}).encode())
    schemas = {("screener_api", "finnhub"): secret_fields(FinnhubCredentials)}
    faults = check_content(content, "screener_api", "f", schemas)
    assert [f"base_url of its file f is not {ADDRESS} (HOST_FINNHUB_API" in one.message for one in faults] == (
        [] if fits else [True]
    )


def test_without_a_key_it_is_created_and_fetches_nothing(tmp_path: Path) -> None:
    """As in a simulation, which has no secrets."""
    server: Any = ScriptedServer()
    server.url = "http://127.0.0.1:9"
    subject = create(Config(), context(server, hosts=NEEDS.hosts, folder=tmp_path))
    with pytest.raises(LoginNeeded, match="no API key of Finnhub"):
        asyncio.run(subject.refresh(DAY, ["AAA"]))


def test_the_server_knows_no_other_path(at_finnhub: Callable[..., Any]) -> None:
    """It answers with 404, with the version in the address or without."""

    async def script(there: Finnhub) -> list[int]:
        await there.refresh("AAA")
        asked = there.server.requests[-1]
        paths = ("/quote", "/api/v1/stock/metric")
        return [there.vendor.answer(attrs.evolve(asked, path=path)).status for path in paths]

    assert at_finnhub(script) == [404, 200]
