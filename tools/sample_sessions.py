"""Backtests and replays sixty sessions with the two sample files, on data downloaded from servers on this machine.

    python tools/sample_sessions.py FOLDER       # with env.sample and env_bot.sample

`tbot init --adopt` takes the files over, `tbot data download` reads the minutes from Alpaca's venue, the VIX from the
exchange's file and the rates from FRED's, and `tbot data import` the fundamentals that the tool writes. Then
`tbot backtest` and `tbot run --replay` trade the same range, and are compared.
"""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import itertools
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click
from sample_files import SampleFolder, adopt, command, document, store_credentials
from tbot_extension_cboe import venue as cboe
from tbot_extension_fred import GRAPH
from tbot_extension_fred import venue as fred

from tbot_core.contracts import Bar
from tbot_core.contracts.permissions import host_setting_name
from tbot_core.contracts.series import RATES, VIX
from tbot_core.marketdata.store.daily_facts import look_back_sessions
from tbot_core.model.calendar import EXCHANGE_WEEKDAYS, ExchangeCalendar, Session
from tbot_core.model.clock import Clock, SystemClock, exchange_time
from tbot_core.model.formatting import plural, round_to_cents
from tbot_core.rehearsal.broker_rehearsal import addresses, broker_plugin, trading_venue
from tbot_core.rehearsal.demo_market import demo_bars
from tbot_core.rehearsal.prices import CASH
from tbot_core.testing.scripted_server import ScriptedServer, ServerReply, ServerRequest
from tbot_core.testing.venue import RecordedVenue, TradingVenue

if TYPE_CHECKING:
    from collections.abc import Iterator


SEED: Final = 1
FIRST: Final = dt.date(2026, 1, 5)
SESSIONS: Final = 60
BEFORE: Final = 20
"""Sessions before the range that are downloaded too: the mean volume is that of twenty."""

COMPANIES: Final = 20
HIGH, LOW = 19.0, 13.5
"""The closes of the VIX: the low one, on about every fourth day, is under the threshold of `close`."""

_DEAR: Final = 6
_THIN: Final = 0.1
_LEAD: Final = dt.timedelta(days=60)  # so much earlier begins the file of the VIX
_VALUES: Final = ("symbol", "as_of", "market_cap", "pe_ratio", "debt_to_equity")


@attrs.frozen(kw_only=True)
class Plan:
    """The sessions that are traded, those before them, and the companies' minutes in all of them."""

    traded: tuple[Session, ...]
    before: tuple[Session, ...]
    bars: tuple[Bar, ...]

    @classmethod
    def of(cls, sessions: int, *, before: int = BEFORE, seed: int = SEED) -> Plan:
        """So many sessions from `FIRST` on, at prices of the demo's market under a seed.

        One company is too dear for MAX_PRICE, and one is traded too little for MIN_VOLUME_THRESHOLD.
        """
        calendar = ExchangeCalendar()
        traded = calendar.sessions(FIRST, FIRST + dt.timedelta(days=2 * sessions + 7))[:sessions]
        earlier = look_back_sessions(calendar, FIRST)[-before:]
        bars = demo_bars(seed, (*earlier, *traded))
        symbols = sorted({bar.symbol for bar in bars})[:COMPANIES]
        moved = {symbols[4]: (_DEAR, 1.0), symbols[5]: (1, _THIN)}
        chosen = tuple(_moved(bar, *moved.get(bar.symbol, (1, 1.0))) for bar in bars if bar.symbol in symbols)
        return cls(traded=traded, before=earlier, bars=chosen)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The companies, sorted."""
        return tuple(sorted({bar.symbol for bar in self.bars}))

    @property
    def days(self) -> tuple[dt.date, dt.date]:
        """The first and the last day that is traded."""
        return self.traded[0].date, self.traded[-1].date

    def list_at(self, venue: TradingVenue) -> None:
        """Let the companies be traded at a venue that has their past."""
        if not isinstance(venue, RecordedVenue):
            raise click.ClickException("The venue of Alpaca takes no past.")
        for symbol in self.symbols:
            venue.list_symbol(symbol, Decimal(20), 0, CASH)
        venue.recorded.add_past(self.bars)

    async def trade_at(self, venue: TradingVenue, session: Session, clock: Clock) -> None:
        """Trade nothing: the sessions are over."""

    def fundamentals(self) -> list[dict[str, object]]:
        """Dated fundamentals: known of most companies before the range, of one from its tenth session on, or a third.

        Every fifth company is too large, every seventh too dear by P/E; of every third new figures are known in the
        middle of the range, by which some pass that did not, and the reverse.
        """
        earlier, middle = self.before[0].date, self.traded[len(self.traded) // 2].date
        tenth = self.traded[min(9, len(self.traded) // 3)].date
        rows: list[dict[str, object]] = []
        for number, symbol in enumerate(self.symbols):
            cap, ratio = 45e9 if number % 5 == 0 else 4.5e9, 80.0 if number % 7 == 0 else 21.5
            known = tenth if number == len(self.symbols) - 1 else earlier
            rows.append(dict(zip(_VALUES, (symbol, known, cap, ratio, 0.8), strict=True)))
            if number % 3 == 0:
                restated = (symbol, middle, cap, 101.5 - ratio, 0.9)
                rows.append(dict(zip(_VALUES, restated, strict=True)))
        return rows


@attrs.define(kw_only=True, eq=False)
class Sources:
    """Servers on this machine with the files of the exchange and of FRED, up to the day before."""

    first: dt.date
    exchange: ScriptedServer = attrs.field(
        default=attrs.Factory(lambda self: ScriptedServer(self.vix_file), takes_self=True)
    )
    reserve: ScriptedServer = attrs.field(
        default=attrs.Factory(lambda self: ScriptedServer(self.rates_file), takes_self=True)
    )

    def vix_file(self, _request: ServerRequest) -> ServerReply:
        """The exchange's file."""
        return ServerReply(body=cboe.file_of(self.closes()).encode())

    def rates_file(self, request: ServerRequest) -> ServerReply:
        """FRED's file of a series."""
        return fred.answer(request, exchange_time(SystemClock().now()).date())

    def closes(self) -> dict[dt.date, float]:
        """The closes of the VIX by weekday."""
        today = exchange_time(SystemClock().now()).date()
        days = (self.first + dt.timedelta(days=number) for number in range((today - self.first).days))
        return {day: LOW if day.toordinal() % 4 == 0 else HIGH for day in days if day.weekday() in EXCHANGE_WEEKDAYS}

    def addresses(self) -> dict[str, str]:
        """The settings that point the extensions to them."""
        return {
            host_setting_name("cboe", "data"): self.exchange.url,
            host_setting_name("fred", "data"): f"{self.reserve.url}{GRAPH.rpartition('/')[0]}",
        }


_ENDS_S: Final = 5.0
"""How long the servers may take to end."""


@contextmanager
def served(plan: Plan) -> Iterator[tuple[TradingVenue, dict[str, str]]]:
    """Serve the sources in a thread of its own; yields Alpaca's venue, and the settings that point plugins to all."""
    ready: Future[tuple[TradingVenue, dict[str, str], asyncio.AbstractEventLoop]] = Future()
    ended, plugin = asyncio.Event(), broker_plugin("alpaca")

    async def whole(venue: TradingVenue) -> None:
        sources = Sources(first=plan.before[0].date - _LEAD)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(sources.exchange)
            await stack.enter_async_context(sources.reserve)
            ready.set_result((venue, addresses(plugin, venue) | sources.addresses(), asyncio.get_running_loop()))
            await ended.wait()

    def serve() -> None:
        try:
            with asyncio.Runner() as runner, trading_venue(plugin, runner, SystemClock(), plan) as venue:
                runner.run(whole(venue))
        except Exception as fault:
            if ready.done():
                raise
            ready.set_exception(fault)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    venue, hosts, loop = ready.result()
    try:
        yield venue, hosts
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(_ENDS_S)  # a command that Ctrl-C ended may leave connections open


def _moved(bar: Bar, price: float, volume: float) -> Bar:
    # The bar with its prices and its volume multiplied.
    if (price, volume) == (1, 1):
        return bar
    prices = {name: round(getattr(bar, name) * price, 2) for name in ("open", "high", "low", "close")}
    vwap = None if bar.vwap is None else round(bar.vwap * price, 4)
    return attrs.evolve(bar, **prices, vwap=vwap, volume=round(bar.volume * volume))


@attrs.frozen(kw_only=True)
class SampleSessions:
    """What the commands printed with --json: each download, the import, both runs; and the seconds of each step.

    `hashes` are those of the settings: as the files were adopted, and after the downloads.
    """

    home: Path
    hashes: tuple[str, str]
    downloads: Mapping[str, Mapping[str, Any]]
    imported: Mapping[str, Any]
    backtest: Mapping[str, Any]
    replay: Mapping[str, Any]
    seconds: Mapping[str, float]

    @property
    def trades_by_strategy(self) -> Mapping[str, int]:
        """How many trades each strategy made."""
        return Counter(trade["strategy"] for trade in self.backtest["trades"])

    @property
    def difference(self) -> str:
        """The first difference of the two runs, "" for none."""
        return first_difference(self.backtest, self.replay)


def first_difference(backtest: Mapping[str, Any], replay: Mapping[str, Any]) -> str:
    """The first trade, count of denials or other figure that differs; "" for none."""
    both = itertools.zip_longest(backtest["trades"], replay["trades"])
    for number, (one, other) in enumerate(both, start=1):
        if one != other:
            return f"trade {number}: {one} in the backtest, {other} in the replay"
    names = ("denials", "equity_start", "equity_end", "sessions", "symbols", "settings_hash", "data_hash", "notes")
    for name in names:
        if backtest[name] != replay[name]:
            return f"{name}: {backtest[name]} in the backtest, {replay[name]} in the replay"
    return ""


def trade(
    home: Path, samples: Path, sessions: int = SESSIONS, *, before: int = BEFORE, seed: int = SEED
) -> SampleSessions:
    """Adopt the samples into a new instance, download and import its data, and trade the sessions by both ways."""
    steps = Steps()
    plan = Plan.of(sessions, before=before, seed=seed)
    adopt(home, samples)
    adopted = settings_hash(home)
    steps.end("prices and instance")
    with served(plan) as (venue, hosts):
        store_credentials(home, venue)
        configure(home, hosts)
        steps.end("servers")
        downloads = {name: document(home, "data", "download", name) for name in (VIX, RATES)}
        days = ("--from", f"{plan.before[0].date}", "--to", f"{plan.days[1]}")
        downloads["bars"] = document(home, "data", "download", "--symbols", ",".join(plan.symbols), *days)
        configure(home, dict.fromkeys(hosts, ""))
        steps.end("downloads")
    imported = imported_fundamentals(home, plan)
    steps.end("import")
    first, last = plan.days
    backtest = document(home, "backtest", "--from", f"{first}", "--to", f"{last}")
    steps.end("backtest")
    replay = document(home, "run", "--replay", f"{first}..{last}")
    steps.end("replay")
    return SampleSessions(
        home=home,
        hashes=(adopted, settings_hash(home)),
        downloads=downloads,
        imported=imported,
        backtest=backtest,
        replay=replay,
        seconds=steps.seconds,
    )


@attrs.define
class Steps:
    """The seconds of each step of a run, by its name."""

    seconds: dict[str, float] = attrs.field(factory=dict)
    _began: float = attrs.field(factory=time.perf_counter)

    def end(self, name: str) -> None:
        """A step has ended; the next one begins."""
        now = time.perf_counter()
        self.seconds[name], self._began = now - self._began, now


def settings_hash(home: Path) -> str:
    """The hash of the settings of an instance, as `tbot config show` prints it."""
    _, out = command(home, "config", "show")
    return out.split()[-1]


def configure(home: Path, settings: Mapping[str, str]) -> None:
    """Change settings by `tbot config set`."""
    code, out = command(home, "config", "set", *(f"{name}={value}" for name, value in settings.items()))
    if code:
        raise click.ClickException(f"tbot config set: {out}")


def imported_fundamentals(home: Path, plan: Plan) -> dict[str, Any]:
    """What `tbot data import` says of the file of fundamentals, which is written first."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "fundamentals.csv"
        with file.open("w", newline="") as out:
            writer = csv.DictWriter(out, _VALUES)
            writer.writeheader()
            writer.writerows(plan.fundamentals())
        return document(home, "data", "import", str(file))


def lines(found: SampleSessions) -> Iterator[str]:
    """What a person sees of the sessions."""
    backtest, trades = found.backtest, found.trades_by_strategy
    bars = found.downloads["bars"]
    yield f"Downloaded: {bars['bars']:,} bars of {len(bars['symbols'])} symbols, {bars['sessions']} sessions"
    yield from (f"  {name}: {found.downloads[name]['added']} days" for name in (VIX, RATES))
    yield f"Sessions: {backtest['sessions']}, trades: {len(backtest['trades'])}"
    yield from (f"  {name:<6} {trades[name]:>4} {pnl_of(backtest, name):>10}" for name in ("open", "mid", "close"))
    yield f"Equity: {backtest['equity_start']} to {backtest['equity_end']}"
    yield "Denials"
    yield from (f"  {name:<26} {count:>5}" for name, count in sorted(backtest["denials"].items()))
    yield "Facts by age, of each symbol in each session"
    for name, use in backtest["reliability"]["facts"].items():
        ages = sorted(use["ages"].items(), key=lambda one: (not one[0].isdecimal(), len(one[0]), one[0]))
        yield f"  {name:<15} " + ", ".join(f"{words_of(age)}: {count}" for age, count in ages if count)
    yield f"Replay: {found.difference or 'the same trades, denials and equity'}"
    yield "Seconds: " + ", ".join(f"{name} {taken:.1f}" for name, taken in found.seconds.items())


def words_of(age: str) -> str:
    """A class of ages: its most days, `older` or `unknown`."""
    return f"up to {plural(int(age), 'day')}" if age.isdecimal() else age


def pnl_of(run: Mapping[str, Any], strategy: str) -> Decimal:
    """The profit of a strategy in USD, rounded to the cent."""
    gains = (Decimal(trade["pnl"]) for trade in run["trades"] if trade["strategy"] == strategy)
    return round_to_cents(sum(gains, Decimal()))


@click.command()
@click.argument("samples", type=SampleFolder())
@click.option("--home", type=click.Path(path_type=Path), help="Keep the instance there.")
@click.option("--sessions", type=click.IntRange(min=2), default=SESSIONS, show_default=True, help="How many to trade.")
@click.option("--seed", default=SEED, show_default=True, help="The prices of the market.")
def main(samples: Path, home: Path | None, sessions: int, seed: int) -> None:
    """Trade the sessions by backtest and replay, and print what a person sees of them."""
    with tempfile.TemporaryDirectory() as name:
        found = trade(home or Path(name) / "bot", samples, sessions, seed=seed)
        for line in lines(found):
            click.echo(line)
        if found.difference:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
