"""Trades a day with the two sample files at servers on this machine, in virtual time, and prints what a person sees.

    python tools/sample_day.py FOLDER       # with env.sample and env_bot.sample

`tbot init --adopt` takes the files over, `tbot secrets set` stores the credentials of the servers, and the run trades
at the venue of Alpaca. Finnhub, PagerDuty and a mail server are reached over real connections. While a position is
held, the stream of bars is lost for three minutes.
"""

from __future__ import annotations

import asyncio
import csv
import email
import email.policy
import io
import re
import tempfile
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click
from aiosmtpd.smtp import SMTP, AuthResult
from sample_files import MAIL_LOGIN, SampleFolder, adopt, command, store_credentials
from tbot_alert_pagerduty.venue import accept
from tbot_extension_cboe import venue as cboe
from tbot_extension_fred import venue as fred
from tbot_filter_finnhub.venue import FundamentalsServer, company

from tbot_core.alerts.service import alert_dispatcher, run_with_alerts
from tbot_core.backtest.shadow_run import session_drift
from tbot_core.cli.run_display import start_log
from tbot_core.contracts import FeedRequest, series
from tbot_core.contracts.network import host_settings
from tbot_core.contracts.permissions import host_setting_name
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan
from tbot_core.extensions.service import with_extensions
from tbot_core.journal.store import Event, read_journal
from tbot_core.model.clock import Clock, exchange_time
from tbot_core.model.types import TICKS_PER_DOLLAR
from tbot_core.rehearsal.broker_rehearsal import BrokerDay, addresses, broker_plugin, open_day
from tbot_core.rehearsal.demo_market import demo_market
from tbot_core.rehearsal.prices import STEP_S, STEPS_A_MINUTE, SimulatedMarket, bars_of
from tbot_core.rehearsal.world import DAY, short_day
from tbot_core.system import log
from tbot_core.testing.scripted_server import ScriptedServer, ServerReply, ServerRequest
from tbot_core.testing.series import drawn_days

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tbot_core.model.calendar import Session
    from tbot_core.testing.venue import TradingVenue

SEED: Final = 1
VIX: Final = 18.4
"""The VIX of each day in the exchange's file: Alpaca's basic plan has no index values."""

BUSY_MINUTES: Final = ((18, 62), (70, 120), (300, 345))
"""When strategies of the sample enter and hold, in minutes after the open."""

LOST_MINUTES: Final = (82, 85)
"""The stream of bars is lost between these minutes, while a position of mid is held."""


class SampleMarket:
    """The companies of the demo, all or some: each five seconds while a strategy enters or holds, else twice in one."""

    def __init__(self, seed: int, symbols: Sequence[str] = ()) -> None:
        paths = demo_market(seed).paths
        self._paths = SimulatedMarket({name: path for name, path in paths.items() if not symbols or name in symbols})

    @property
    def symbols(self) -> tuple[str, ...]:
        """The companies, and an index fund."""
        return self._paths.symbols

    def list_at(self, venue: TradingVenue) -> None:
        """Let the companies be traded."""
        self._paths.list_at(venue)

    async def trade_at(self, venue: TradingVenue, session: Session, clock: Clock) -> None:
        """Trade to the close, and publish each minute."""
        for minute in range(session.minutes):
            is_busy = any(start <= minute < stop for start, stop in BUSY_MINUTES)
            for step in range(0, STEPS_A_MINUTE, 1 if is_busy else STEPS_A_MINUTE // 2):
                await clock.sleep_until(session.moment(minute) + timedelta(seconds=step * STEP_S))
                for symbol, path in self._paths.paths.items():
                    price = path.prices[minute * STEPS_A_MINUTE + step]
                    venue.trade(symbol, Decimal(price) / TICKS_PER_DOLLAR)
            await clock.sleep_until(session.moment(minute + 1) + timedelta(seconds=1))
            bars = bars_of(session, self._paths.minute(minute), self._paths.symbols)
            await venue.publish(list(bars))


class Inbox:
    """A mail server's mails; it accepts one login."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  -- aiosmtpd's name
        """Keep a mail."""
        mail: Any = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append(mail)
        return "250 OK queued"

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        """Accept the one password."""
        return AuthResult(success=(data.login, data.password) == tuple(map(str.encode, MAIL_LOGIN)), handled=False)

    async def listen(self) -> None:
        """Listen on this machine."""
        loop = asyncio.get_running_loop()
        made = partial(
            SMTP, self, hostname="mail.example", authenticator=self.authenticate, auth_require_tls=False, loop=loop
        )
        self._server = await loop.create_server(made, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()


@attrs.define(kw_only=True, eq=False)
class Servers:
    """The servers of the day besides the venue, and how Finnhub judges its companies."""

    fundamentals: FundamentalsServer
    inbox: Inbox = attrs.field(factory=Inbox)
    pagerduty: ScriptedServer = attrs.field(factory=lambda: ScriptedServer(accept))
    finnhub: ScriptedServer = attrs.field(
        default=attrs.Factory(lambda self: ScriptedServer(self.fundamentals.answer), takes_self=True)
    )

    exchange: ScriptedServer = attrs.field(
        default=attrs.Factory(lambda self: ScriptedServer(self.vix_file), takes_self=True)
    )
    reserve: ScriptedServer = attrs.field(
        default=attrs.Factory(lambda self: ScriptedServer(self.fred_file), takes_self=True)
    )

    @property
    def today(self) -> date:
        """The exchange's date."""
        return exchange_time(self.fundamentals.clock.now()).date()

    def vix_file(self, _request: ServerRequest) -> ServerReply:
        """The exchange's file up to the day before."""
        closes = dict.fromkeys(drawn_days(series.VIX, self.today), VIX)
        return ServerReply(body=cboe.file_of(closes).encode())

    def fred_file(self, request: ServerRequest) -> ServerReply:
        """FRED's file of a series."""
        return fred.answer(request, self.today)

    @classmethod
    def of(cls, clock: Clock, symbols: Sequence[str]) -> Servers:
        """Every fourth company is too large, every seventh too dear; the others pass the sample's limits."""
        companies = {
            symbol: company(pe=80.0 if number % 7 == 0 else 21.5, cap_millions=45_000.0 if number % 4 == 0 else 4_500.0)
            for number, symbol in enumerate(symbols)
        }
        return cls(fundamentals=FundamentalsServer(clock, companies))

    async def start(self) -> None:
        """Start them in the running loop."""
        await self.inbox.listen()
        await self.pagerduty.__aenter__()
        for one in (self.finnhub, self.exchange, self.reserve):
            await one.__aenter__()

    async def stop(self) -> None:
        """Stop them."""
        self.inbox.close()
        for one in (self.finnhub, self.exchange, self.reserve):
            await one.__aexit__(None, None, None)
        await self.pagerduty.__aexit__(None, None, None)

    def addresses(self) -> dict[str, str]:
        """The settings that point plugins to them."""
        hosts = host_settings("pagerduty", {"events": ""}) | host_settings("finnhub", {"api": ""})
        return {
            hosts["events"].name: self.pagerduty.url,
            hosts["api"].name: f"{self.finnhub.url}/api/v1",
            host_setting_name("cboe", "data"): self.exchange.url,
            host_setting_name("fred", "data"): f"{self.reserve.url}/graph",
        }


@attrs.frozen(kw_only=True, eq=False)
class SampleDay:
    """What the day left: the instance, the run's outcome, the journal, mails, and PagerDuty's events."""

    home: Path
    outcome: RunOutcome
    events: list[Event]
    mails: list[EmailMessage]
    incidents: list[dict[str, Any]]

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        """The payloads of the journal's events of a kind."""
        return [one.payload for one in self.events if one.kind == kind]

    @property
    def exported(self) -> list[dict[str, str]]:
        """The trades of the exported ledger files."""
        files = sorted((self.home / "reports" / "ledger").glob("*.csv"))
        return [row for file in files for row in csv.DictReader(io.StringIO(file.read_text()))]


def without_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Let what belongs into a thread be done at once: virtual time has none."""

    def at_once(_executor: object, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        done = loop.create_future()
        try:
            done.set_result(function(*arguments))
        except Exception as fault:  # noqa: BLE001  -- it belongs to who awaits the call
            done.set_exception(fault)
        return done

    loop.run_in_executor = at_once  # type: ignore[method-assign, assignment]


async def live_day(day: BrokerDay, servers: Servers, lost: tuple[float, float] = LOST_MINUTES) -> RunOutcome:
    """Run the day with its log and its alerts; the stream of bars is lost between two minutes."""
    without_threads(day.loop)
    hosts = {**addresses(broker_plugin("alpaca"), day.venue), **servers.addresses()}
    assembly = attrs.evolve(assemble(day.home, "paper", day.clock, hosts), calendar=day.calendar)
    request = FeedRequest(kind="live", calendar=day.calendar, extra_facts=assembly.extra_facts)
    start_log(assembly, day.home / "logs" if assembly.settings.general.enable_logging else None, screen=False)
    plan = RunPlan(assembly=assembly, request=request, wall=day.clock, once=True, watch_s=1.0, drift=session_drift)
    alerts = alert_dispatcher(assembly, day.clock)
    work = run_with_alerts(with_extensions(run(plan, day.watcher), plan), alerts, lambda: True)
    life = day.loop.create_task(assembly.closing(work))
    server: Any = day.venue.server
    serve = server._on_socket  # noqa: SLF001  -- the fault of the day
    await day.until(lost[0])

    async def only_the_account(connection: Any) -> None:
        if connection.request.path.startswith("/stream"):
            await serve(connection)
        else:
            connection.transport.abort()

    server._on_socket = only_the_account  # noqa: SLF001
    await server.drop_sockets()
    await day.until(lost[1])
    server._on_socket = serve  # noqa: SLF001
    try:
        return await life
    finally:
        log.close()


def trade(home: Path, samples: Path, seed: int = SEED, minutes: int | None = None) -> SampleDay:
    """Adopt the samples into a new instance, and trade the day; it closes `minutes` after the open (None: as usual)."""
    adopt(home, samples)
    market = SampleMarket(seed)
    calendar, _ = short_day(minutes)
    with open_day(broker_plugin("alpaca"), home, market, calendar, DAY) as (opened, script):
        servers = Servers.of(opened.clock, market.symbols)

        async def whole(day: BrokerDay) -> RunOutcome:
            await servers.start()
            store_credentials(home, day.venue, servers.inbox.port)
            try:
                return await live_day(day, servers)
            finally:
                await servers.stop()

        outcome = script(whole)
    with journal_events(home) as events:
        return SampleDay(
            home=home,
            outcome=outcome,
            events=events,
            mails=servers.inbox.mails,
            incidents=[one.document for one in servers.pagerduty.requests],
        )


@contextmanager
def journal_events(home: Path) -> Iterator[list[Event]]:
    """The events of an instance's journal."""
    journal = read_journal(home / "data" / "tbot.sqlite")
    try:
        yield list(journal.events())
    finally:
        journal.close()


def mail_line(mail: EmailMessage) -> str:
    """A mail in one line: when it happened in New York, and its first line, of which the subject may be a part."""
    first, moment, *_ = mail.get_content().splitlines()
    found = re.search(r"\((\d\d:\d\d)(?::\d\d)? New York\)", moment)
    return f"{found.group(1) if found else '     '}  {first}"


def incident_line(event: Mapping[str, Any]) -> str:
    """An event of PagerDuty: what it does, and its summary."""
    return f"{event['event_action']:<8} {event.get('payload', {}).get('summary', event['dedup_key'])}"


def lines(day: SampleDay) -> Iterator[str]:
    """What a person sees of the day."""
    yield "Mails (routine)"
    yield from (f"  {mail_line(mail)}" for mail in day.mails)
    yield "PagerDuty (critical)"
    yield from (f"  {incident_line(event)}" for event in day.incidents)
    yield "Exported trades"
    yield from (f"  {', '.join(row.values())}" for row in day.exported)
    code, checked = command(day.home, "check")
    yield f"tbot check (exit {code})"
    yield from (f"  {line}" for line in checked.splitlines() if not line.startswith("ok"))


@click.command()
@click.argument("samples", type=SampleFolder())
@click.option("--home", type=click.Path(path_type=Path), help="Keep the instance there.")
@click.option("--seed", default=SEED, help="The prices of the day.")
def main(samples: Path, home: Path | None, seed: int) -> None:
    """Trade the day, and print what a person sees of it."""
    with tempfile.TemporaryDirectory() as name:
        for line in lines(trade(home or Path(name) / "bot", samples, seed)):
            click.echo(line)


if __name__ == "__main__":
    main()
