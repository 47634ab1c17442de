"""Point in time: what becomes known after a session changes nothing of it, and what was known before its bell does."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import polars as pl
import pytest
from tbot_filter_finnhub import NEEDS, Config, FinnhubCredentials, create
from tbot_filter_finnhub.venue import KEY, FundamentalsServer, company

from tbot_core import cli
from tbot_core.contracts import DailyValue
from tbot_core.contracts.series import RATES, VIX
from tbot_core.engine.session.fact_refresh import FactRefresher
from tbot_core.journal import records
from tbot_core.journal.store import read_journal
from tbot_core.marketdata.store.importer import RefusedFile
from tbot_core.marketdata.store.series import PublishedSeries, merge_series
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.clock import ManualClock, exchange_moment
from tbot_core.rehearsal.demo_market import demo_bars
from tbot_core.system.secret import Secret
from tbot_core.testing.scripted_server import ScriptedServer, context
from tbot_core.testing.store import StoreFixture, exchange_sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


pytestmark = pytest.mark.usefixtures("loopback")

SESSIONS = exchange_sessions("2026-01-02", "2026-01-16")
BEFORE, RANGE, LATER = SESSIONS[:5], SESSIONS[5:8], SESSIONS[8:]
FIRST, LAST = RANGE[0].date, RANGE[-1].date
DAY = dt.timedelta(days=1)
COMPANIES = 12
IMPORTED, FETCHED, LACKING = slice(0, 5), slice(5, 10), slice(10, 12)
"""Companies whose facts are imported, fetched for a week that ends with the range, and unknown."""

SETTINGS = {
    "BROKER_NAME": "PAPER",
    "EXTENSIONS": "none",
    "STRATEGY_SEQUENCE": "open,mid,close",
    "ENABLE_FUNNHUB_FUNDAMENTALS_FILTER": "true",
    "FILTER_MISSING_DATA": "reject",
    "MAX_PE_RATIO": "50",
    "MAX_DEBT_EQUITY": "2.5",
    "MIN_VOLUME_THRESHOLD": "1000000",
    "STRAT_OPEN_BUFFER": "0.005",
    "STRAT_MID_VWAP_THRESHOLD": "0.01",
    "STRAT_CLOSE_VIX_THRESHOLD": "15",
    **{f"MIN_MARKET_CAP_{name}": "2000000000" for name in ("OPEN", "MID", "CLOSE")},
    **{f"MAX_MARKET_CAP_{name}": "10000000000" for name in ("OPEN", "MID", "CLOSE")},
    **{f"SHORT_TYPE_{name}": "ShortSell" for name in ("OPEN", "MID", "CLOSE")},
    "START_TIME_OPEN": "14:30",
    "START_TIME_MID": "15:30",
    "START_TIME_CLOSE": "19:30",
}
OF_THE_STORE = {"data_hash", "report"}
"""What a document has of the store as a whole: its digest, and the name of the report, which follows from it."""


@attrs.frozen
class Past:
    """An instance with eight sessions of bars, closes of the VIX and fundamentals; the last three are traded."""

    home: Path

    @property
    def bench(self) -> StoreFixture:
        """Its bar store."""
        return StoreFixture(folder=self.home / "data")

    @property
    def symbols(self) -> tuple[str, ...]:
        """The companies."""
        return self.bench.store.symbols(BEFORE[0].date, LAST)

    def put(self, text: str, **options: Any) -> None:
        """Import a CSV file; its rows are new or replace stored ones."""
        outcome = self.bench.put_text(text, name="given.csv", **options)
        assert not isinstance(outcome, RefusedFile), outcome

    def restate(self, as_of: dt.date, ratio: float = 90.0) -> None:
        """Import other fundamentals of every company: too dear by P/E."""
        self.put(fundamentals(self.symbols, as_of, ratio=ratio))

    def publish(self, values: Mapping[dt.date, float], name: str = VIX) -> None:
        """Store what a source publishes of a series, on the day after its last value."""
        code = "US" if name == RATES else ""
        series = [DailyValue(day=day, value=value, code=code) for day, value in sorted(values.items())]
        found = PublishedSeries(name=name, source="a source", values=series)
        merge_series(self.bench.bars, ExchangeCalendar(), found, max(values) + DAY)

    def ask_finnhub(
        self, session: Session, hour: dt.time, ratio: float = 90.0, companies: slice = slice(COMPANIES)
    ) -> None:
        """Fetch what these companies lack at this hour, New York, as a run does when it prepares that session."""
        clock = ManualClock(exchange_moment(session.date, hour))
        vendor = FundamentalsServer(clock, others=lambda _symbol: company(pe=ratio))

        async def main() -> None:
            async with ScriptedServer(vendor.answer) as server:
                secrets = {"screener_api": FinnhubCredentials(api_key=Secret(KEY))}
                given = context(server, hosts=NEEDS.hosts, secrets=secrets, clock=clock, folder=self.bench.bars)
                source = create(Config(), given)
                refresher = FactRefresher(sources={"finnhub": source}, bars=self.bench.bars, clock=clock)
                try:
                    await refresher.refresh(session, lambda _known: self.symbols[companies], lambda _words: None)
                finally:
                    await given.connect.close()

        asyncio.run(main())

    def results(self, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
        """The documents of a backtest and of a replay, and the signals and decisions in the replay's journal."""
        days, runs = (str(FIRST), str(LAST)), self.home / "data" / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        return {
            "backtest": self._document(capsys, "backtest", "--from", days[0], "--to", days[1]),
            "replay": self._document(capsys, "run", "--replay", "..".join(days)),
            "decisions": [one for path in runs.glob("*.sqlite") for one in decisions(path)],
        }

    def _document(self, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
        capsys.readouterr()
        assert cli.invoke([*words, "--json", "--home", str(self.home)]) == 0
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return {name: value for name, value in document.items() if name not in OF_THE_STORE}


def decisions(journal: Path) -> list[Mapping[str, Any]]:
    """The payloads of the decisions in a journal."""
    opened = read_journal(journal)
    try:
        return [one.payload for one in opened.events() if one.kind == records.DECISION]
    finally:
        opened.close()


def fundamentals(symbols: Iterable[str], as_of: dt.date, ratio: float = 21.5) -> str:
    """A file of fundamentals; every fourth company is too large."""
    rows = (
        f"{symbol},{as_of},{45_000_000_000 if number % 4 == 3 else 4_500_000_000},{ratio},0.8"
        for number, symbol in enumerate(symbols)
    )
    return "\n".join(["symbol,as_of,market_cap,pe_ratio,debt_to_equity", *rows]) + "\n"


def put_bars(past: Past, sessions: tuple[Session, ...], companies: int) -> None:
    """Import the minutes of so many companies in these sessions."""
    outcomes = past.bench.put(*minutes(sessions, companies))
    assert not [one for one in outcomes if isinstance(one, RefusedFile)]


def minutes(sessions: tuple[Session, ...], companies: int = COMPANIES) -> list[pl.DataFrame]:
    """The minutes of so many companies in these sessions, a table each."""
    found = pl.DataFrame([attrs.asdict(bar) for bar in demo_bars(1, sessions)])
    table = found.rename({"start": "ts"}).with_columns(pl.col("volume").cast(pl.Int64))
    return [table.filter(pl.col("symbol") == symbol) for symbol in sorted({*table["symbol"]})[:companies]]


def weekdays(first: dt.date, last: dt.date) -> list[dt.date]:
    """The weekdays of a range, both days included."""
    days = (first + number * DAY for number in range((last - first).days + 1))
    return [day for day in days if day.weekday() < 5]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The instance's folder, of which each test has a copy."""
    home = tmp_path_factory.mktemp("past") / "bot"
    (home / "data").mkdir(parents=True)
    (home / ".env_bot").write_text("".join(f"{name}={text}\n" for name, text in SETTINGS.items()))
    past = Past(home)
    put_bars(past, (*BEFORE, *RANGE), COMPANIES)
    past.publish(dict.fromkeys(weekdays(BEFORE[0].date, LAST), 19.0))
    past.put(fundamentals(past.symbols[IMPORTED], BEFORE[0].date))
    past.ask_finnhub(BEFORE[3], dt.time(8), ratio=21.5, companies=FETCHED)
    return home


@pytest.fixture
def past(made: Path, tmp_path: Path) -> Past:
    """The instance."""
    return Past(Path(shutil.copytree(made, tmp_path / "bot")))


LATER_KNOWN: dict[str, Callable[[Past], None]] = {
    "restated fundamentals as of the last day": lambda past: past.restate(LAST),
    "restated fundamentals of a later day": lambda past: past.restate(LATER[1].date),
    "an answer of Finnhub on the next morning": lambda past: past.ask_finnhub(LATER[0], dt.time(8)),
    "a run that prepares the first day again after its bell": lambda past: past.ask_finnhub(
        RANGE[0], dt.time(11), companies=FETCHED
    ),
    "the VIX of tomorrow, and another of today": lambda past: past.publish(
        {**dict.fromkeys(weekdays(BEFORE[0].date, LAST), 19.0), LAST: 11.0, LATER[0].date: 11.0, LATER[1].date: 11.0}
    ),
    "rates of today and tomorrow": lambda past: past.publish({LAST: 0.9, LATER[0].date: 0.95}, RATES),
    "bars of later sessions, and of a company that is listed then": lambda past: put_bars(past, LATER, COMPANIES + 1),
    "a split on the next day": lambda past: past.put(
        f"date,symbol,before,after\n{LATER[0].date},{past.symbols[0]},1,2\n"
    ),
}

EARLIER_KNOWN: dict[str, Callable[[Past], None]] = {
    "restated fundamentals as of the day before the range": lambda past: past.restate(FIRST - DAY),
    "restated fundamentals as of its first day": lambda past: past.restate(FIRST),
    "an answer of Finnhub on its second morning": lambda past: past.ask_finnhub(
        RANGE[1], dt.time(8), companies=LACKING
    ),
    "an answer of Finnhub within its last day": lambda past: past.ask_finnhub(RANGE[2], dt.time(11), companies=LACKING),
    "a low VIX of its first day": lambda past: past.put(
        f"date,open,high,low,close\n{FIRST},11,11,11,11\n", replace=True
    ),
}


@pytest.fixture(scope="module")
def unchanged() -> dict[str, Any]:
    """The results of the instance as it was made, once they are known."""
    return {}


def results_before(past: Past, unchanged: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The results of the instance as it was made; computed once."""
    if not unchanged:
        unchanged.update(past.results(capsys))
    return unchanged


@pytest.mark.slow
@pytest.mark.parametrize("fact", LATER_KNOWN)
def test_what_is_known_later_changes_nothing(
    past: Past, unchanged: dict[str, Any], capsys: pytest.CaptureFixture[str], fact: str
) -> None:
    """The documents of backtest and replay, and each signal with its decision, are equal to the byte."""
    before = results_before(past, unchanged, capsys)
    assert {trade["strategy"] for trade in before["backtest"]["trades"]} >= {"open", "mid"}
    assert before["decisions"]
    LATER_KNOWN[fact](past)
    after = past.results(capsys)
    assert json.dumps(after, default=str) == json.dumps(before, default=str)


@pytest.mark.slow
@pytest.mark.parametrize("fact", EARLIER_KNOWN)
def test_what_was_known_before_a_bell_changes_what_follows(
    past: Past, unchanged: dict[str, Any], capsys: pytest.CaptureFixture[str], fact: str
) -> None:
    """The proof that the other cases can fail: the same values, of an earlier day.

    Facts are dated by the day: what a run fetches within a session counts in its replay from that session's bell on.
    """
    before = results_before(past, unchanged, capsys)
    EARLIER_KNOWN[fact](past)
    after = past.results(capsys)
    assert after["backtest"]["denials"] != before["backtest"]["denials"]
    assert after["replay"]["denials"] == after["backtest"]["denials"]
