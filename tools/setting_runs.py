"""Runs of the product that show what a setting does; each gives figures, and two runs are compared by them.

The instance is adopted from the two sample files. A run has the sample's settings, but for those that it is given, as
`NAME=VALUE`.
"""

from __future__ import annotations

import asyncio
import io
import re
import shutil
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click
from sample_day import SEED, SampleMarket
from sample_files import FILES, adopt, store_credentials
from tbot_extension_cboe.venue import file_of

from tbot_core import cli
from tbot_core.cli.crash_report import CrashReporter
from tbot_core.contracts import series
from tbot_core.model import json_document
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.clock import SystemClock, exchange_time
from tbot_core.model.formatting import round_to_cents
from tbot_core.rehearsal.broker_rehearsal import broker_plugin, open_day
from tbot_core.rehearsal.world import DAY
from tbot_core.testing.scripted_server import ScriptedServer, ServerReply, ServerRequest
from tbot_core.testing.series import drawn_days

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


Figures = dict[str, str]
"""What a run shows, by name; the most telling figures come first."""

SAID: Final = "said"
"""The value of a sentence: it is said, or it is not."""

STORED: Final = ("2026-03-16", "2026-04-30")
"""The simulated sessions that are stored; those before the backtest are the past of its first session."""

TESTED: Final = ("2026-04-01", "2026-04-30")
_VIX: Final = (13.2, 14.4, 15.8, 17.5, 21.0)
"""Closes of the VIX, day after day: two of five are below the sample's STRAT_CLOSE_VIX_THRESHOLD."""

_TOO_LARGE, _TOO_SMALL, _USUAL = 45_000_000_000, 1_200_000_000, 4_500_000_000
_EXPIRY_DAYS: Final = 90
_LATE_S: Final = 1.5
STRATEGIES: Final = ("open", "mid", "close")


@attrs.frozen(kw_only=True)
class Said:
    """What a command answered: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def first(self) -> str:
        """The first line of what it complained of."""
        lines = [line.strip().removeprefix("tbot: ") for line in (self.err or self.out).splitlines()]
        return next((line for line in lines if line), "")


def said(home: Path, *words: str, given: str = "") -> Said:
    """A command of `tbot` in an instance, with its standard input."""
    stdin = sys.stdin
    sys.stdin = io.StringIO(given)
    try:
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            code = cli.invoke([*words, "--home", str(home)])
    finally:
        sys.stdin = stdin
    return Said(code=code, out=out.getvalue(), err=err.getvalue())


def done(home: Path, *words: str, given: str = "") -> str:
    """What a command printed that must succeed; raises ClickException where it does not."""
    answer = said(home, *words, given=given)
    if answer.code:
        raise click.ClickException(f"tbot {' '.join(words)} exits with {answer.code}: {answer.err}")
    return answer.out


@attrs.define(kw_only=True)
class Bench:
    """A folder with the instances of the runs; what was run is kept, so that many settings share a run."""

    folder: Path
    samples: Path
    _kept: dict[tuple[str, tuple[str, ...]], Figures] = attrs.field(factory=dict)

    def figures(self, run: Callable[[Bench, tuple[str, ...]], Figures], settings: tuple[str, ...]) -> Figures:
        """The figures of a run with these settings."""
        key = (run.__name__, tuple(sorted(settings)))
        if key not in self._kept:
            self._kept[key] = run(self, settings)
        return self._kept[key]

    @cached_property
    def adopted(self) -> Path:
        """The instance of the sample files, to the byte."""
        home = self.folder / "adopted"
        adopt(home, self.samples)
        return home

    @cached_property
    def sealed(self) -> Path:
        """That instance with the credentials of all that it reaches, and a port of the page."""
        home, symbols = self.copy(self.adopted, "sealed"), ("SPY",)
        with open_day(broker_plugin("alpaca"), home, SampleMarket(SEED, symbols), ExchangeCalendar(), DAY) as (day, _):
            store_credentials(home, day.venue)
        done(home, "secrets", "set", "network", "--from-json", "-", given='{"port": "8443"}')
        return home

    @cached_property
    def stored(self) -> Path:
        """That instance with simulated bars, the VIX and fundamentals; a run adds reports alone."""
        home, paper, files = self.copy(self.adopted, "stored"), self.folder / "paper", self.folder / "files"
        done(paper, "init", "--paper")
        done(paper, "data", "download", "--source", "paper", "--from", STORED[0], "--to", STORED[1])
        files.mkdir()
        done(paper, "data", "export", str(files), "--from", STORED[0], "--to", STORED[1], "--format", "parquet")
        symbols = sorted(path.stem for path in files.glob("*.parquet"))
        (files / "fundamentals.csv").write_text("\n".join(_fundamentals(symbols)) + "\n", encoding="utf-8")
        (files / "vix.csv").write_text("\n".join(_vix()) + "\n", encoding="utf-8")
        done(home, "data", "import", str(files))
        return home

    def copy(self, home: Path, name: str) -> Path:
        """A copy of an instance, in place of one of that name."""
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        return Path(shutil.copytree(home, target))


def _fundamentals(symbols: Iterable[str]) -> Iterable[str]:
    # Most companies pass the sample's limits; some are too large or small, too dear, or too deep in debt.
    yield "symbol,as_of,market_cap,pe_ratio,debt_to_equity"
    for number, symbol in enumerate(symbols):
        cap = {0: _TOO_LARGE, 1: _TOO_SMALL}.get(number % 8, _USUAL)
        yield f"{symbol},2026-03-02,{cap},{80 if number % 7 == 0 else 21.5},{4 if number % 9 == 0 else 0.6}"


def _vix() -> Iterable[str]:
    yield "date,open,high,low,close"
    day, last = date.fromisoformat(STORED[0]), date.fromisoformat(STORED[1])
    number = 0
    while day <= last:
        if day.weekday() < 5:
            yield ",".join([day.isoformat(), *[str(_VIX[number % len(_VIX)])] * 4])
            number += 1
        day += timedelta(days=1)


def backtest(bench: Bench, settings: tuple[str, ...]) -> Figures:
    """`tbot backtest` over the stored sessions: trades, denials, sizes, times and profit."""
    options = [word for setting in settings for word in ("--set", setting)]
    answer = said(bench.stored, "backtest", "--from", TESTED[0], "--to", TESTED[1], "--json", *options)
    if answer.code:
        return {"exit code": str(answer.code), "message": answer.first}
    return {"exit code": "0", **_traded(json_document.parse_json(answer.out))}


def _traded(result: Any) -> Figures:
    trades = result["trades"]
    found = {"sessions": str(result["sessions"]), "trades": str(len(trades))}
    of = Counter(trade["strategy"] for trade in trades)
    short = Counter(trade["strategy"] for trade in trades if trade["side"] == "short")
    found |= {f"trades of {name}": str(of[name]) for name in STRATEGIES}
    found |= {f"short trades of {name}": str(short[name]) for name in STRATEGIES}
    found |= {f"denials {code}": str(count) for code, count in sorted(result["denials"].items())}
    values = [Decimal(trade["quantity"]) * Decimal(trade["entry_price"]) for trade in trades]
    found["bought or sold short, USD"] = str(round_to_cents(sum(values, Decimal(0))))
    found["largest entry, USD"] = str(round_to_cents(max(values, default=Decimal(0))))
    whole = sum(Decimal(trade["quantity"]) % 1 == 0 for trade in trades)
    found["trades of whole shares"] = str(whole)
    for name in STRATEGIES:
        clocks = sorted(_clock(trade["entry_time"]) for trade in trades if trade["strategy"] == name)
        found[f"entries of {name}, New York"] = f"{clocks[0]} to {clocks[-1]}" if clocks else "none"
    reasons = Counter(trade["exit_reason"] for trade in trades)
    found |= {f"exits {reason}": str(count) for reason, count in sorted(reasons.items())}
    for name in STRATEGIES:
        held = [_minutes(trade) for trade in trades if trade["strategy"] == name]
        found[f"minutes held by {name}, mean"] = f"{sum(held) / len(held):.1f}" if held else "none"
    found["profit, USD"] = str(round_to_cents(Decimal(result["equity_end"]) - Decimal(result["equity_start"])))
    return found


def _clock(moment: str) -> str:
    return exchange_time(datetime.fromisoformat(moment)).strftime("%H:%M")


def _minutes(trade: Mapping[str, str]) -> float:
    held = datetime.fromisoformat(trade["exit_time"]) - datetime.fromisoformat(trade["entry_time"])
    return held.total_seconds() / 60


def plain(bench: Bench, name: str, settings: tuple[str, ...]) -> Path:
    """A copy of the instance with credentials and these changes; a changed file is plaintext, and `.env` always."""
    home, before = bench.copy(bench.sealed, name), _changed(bench, ())
    for file, text in _changed(bench, settings).items():
        if file == ".env" or text != before[file]:
            (home / f"{file}.enc").unlink()
            (home / file).write_text(text, encoding="utf-8")
            (home / file).chmod(0o600)
    return home


def _changed(bench: Bench, settings: tuple[str, ...]) -> dict[str, str]:
    # The text of each file with its changed settings.
    texts = {file: (bench.samples / sample).read_text(encoding="utf-8") for sample, file in FILES.items()}
    for setting in settings:
        line = re.compile(rf"^{setting.partition('=')[0]}=.*$", re.MULTILINE)
        texts = {file: line.sub(setting, text) for file, text in texts.items()}
    return texts


def secrets(bench: Bench, settings: tuple[str, ...]) -> Figures:
    """`tbot secrets show`: where each category has its key and its file, and whether they are there."""
    answer = said(plain(bench, "secrets", settings), "secrets", "show", "--json")
    if answer.code:
        return {"exit code": str(answer.code), "message": answer.first}
    found = {"exit code": "0"}
    for one in json_document.parse_json(answer.out)["categories"]:
        found |= {f"{one['category']}: {name}": str(one[name]) for name in ("file", "key", "presence")}
        found[f"{one['category']}: key that is there"] = "yes" if one["key_id"] else "no"
    return found


def adoption(bench: Bench, settings: tuple[str, ...]) -> Figures:
    """`tbot init --adopt` of the changed file: the files that it makes."""
    source, home = bench.folder / "source", bench.folder / "made"
    for folder in (source, home):
        shutil.rmtree(folder, ignore_errors=True)
    source.mkdir()
    for file, text in _changed(bench, settings).items():
        (source / file).write_text(text, encoding="utf-8")
    answer = said(home, "init", "--adopt", "--from", str(source))
    if not (home / ".env_bot.enc").exists():
        return {"exit code": str(answer.code), "message": answer.first}
    made = sorted(path.relative_to(home).as_posix() for path in home.rglob("*.key"))
    return {"exit code": "0", **{f"key {name}": "made" for name in made}}


def findings(bench: Bench, settings: tuple[str, ...]) -> Figures:
    """`tbot config check`: failures, warnings and notes."""
    return _findings(bench, settings, "paper")


def live_findings(bench: Bench, settings: tuple[str, ...]) -> Figures:
    """`tbot config check --mode live`: failures, warnings and notes."""
    return _findings(bench, settings, "live")


def _findings(bench: Bench, settings: tuple[str, ...], mode: str) -> Figures:
    answer = said(plain(bench, "findings", settings), "config", "check", "--mode", mode, "--json")
    if not answer.out:
        return {"message": answer.first}
    rows = json_document.parse_json(answer.out)["findings"]
    return {f"{one['level']}: {one['message']}": SAID for one in rows if one["level"] != "ok"}


def requests(bench: Bench, settings: tuple[str, ...]) -> Figures:
    """`tbot stop`: where the request to the bot lies."""
    home = plain(bench, "requests", settings)
    said(home, "stop")
    files = [path for path in home.rglob("stop-*.json") if path.is_file()]
    return {f"requests in {path.parent.relative_to(home).as_posix()}/": "1" for path in files}


def option(bench: Bench, settings: tuple[str, ...]) -> Figures:
    """`tbot options price` of a put on a made-up share: the rate, its source and the verdict."""
    home = bench.copy(bench.sealed, "option")
    if settings:
        done(home, "config", "set", *settings)
    expiry = SystemClock().now().date() + timedelta(days=_EXPIRY_DAYS)
    contract = ("ACME", expiry.isoformat(), "30", "put", "--spot", "30", "--volatility", "0.5")
    answer = said(home, "options", "price", *contract, "--bid", "5.5", "--ask", "5.9", "--json")
    if answer.code:
        return {"exit code": str(answer.code), "message": answer.first}
    found = json_document.parse_json(answer.out)
    (rate,) = (one for one in found["inputs"] if one["name"] == "rate")
    return {"exit code": "0", "verdict": found["verdict"], "rate": str(rate["value"]), "source": rate["source"]}


def failing_server(bench: Bench, settings: tuple[str, ...]) -> Figures:
    """`tbot data download vix` from a server that fails each time: requests."""
    with _server(lambda _request: ServerReply(status=503, body=b"busy")) as server:
        _download(bench, settings, server)
        return {"requests": str(len(server.requests))}


def slow_server(bench: Bench, settings: tuple[str, ...]) -> Figures:
    """`tbot data download vix` from a server that answers after 1.5 seconds."""
    closes = file_of(drawn_days(series.VIX, exchange_time(SystemClock().now()).date())).encode()

    def late(_request: ServerRequest) -> ServerReply:
        time.sleep(_LATE_S)
        return ServerReply(body=closes)

    with _server(late) as server:
        answer = _download(bench, settings, server)
    return {"exit code": str(answer.code), "message": re.sub(r"127\.0\.0\.1:\d+", "the server", answer.first)}


def _download(bench: Bench, settings: tuple[str, ...], server: ScriptedServer) -> Said:
    home = bench.copy(bench.sealed, "download")
    done(home, "config", "set", f"HOST_CBOE_DATA={server.url}", *settings)
    return said(home, "data", "download", "vix", "--source", "cboe", "--json")


@contextmanager
def _server(answer: Callable[[ServerRequest], ServerReply]) -> Iterator[ScriptedServer]:
    # A server with an event loop and a thread of its own.
    loop, server = asyncio.new_event_loop(), ScriptedServer(answer)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def crash(bench: Bench, settings: tuple[str, ...]) -> Figures:
    """An unexpected error in a command: what the screen shows."""
    reporter = CrashReporter()
    reporter.home = plain(bench, "crash", settings)
    with redirect_stderr(io.StringIO()) as screen:
        try:
            _fail()
        except RuntimeError as fault:
            reporter.report(type(fault), fault, fault.__traceback__)
    return {"traceback on the screen": "yes" if "Traceback" in screen.getvalue() else "no"}


def _fail() -> None:
    raise RuntimeError("an error that nothing expects")
