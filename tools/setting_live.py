"""A short live day of the sample files in virtual time, and what of it a setting changes."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from sample_day import SampleMarket, Servers, journal_events, live_day
from sample_files import store_credentials
from setting_runs import Figures, done

from tbot_core.journal import records
from tbot_core.rehearsal.broker_rehearsal import BrokerDay, broker_plugin, open_day
from tbot_core.rehearsal.world import DAY, short_day

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from email.message import EmailMessage
    from pathlib import Path

    from setting_runs import Bench


_SEED: Final = 1
_LEVELS: Final = ("debug", "info", "warning", "error")
_SYMBOLS: Final = ("SPY", "FORJA", "BOWNO", "AMBLO")
_MINUTES: Final = 45
"""So long the day is: the window of open, and the exit of what it entered."""

_LOST: Final = (25.0, 28.5)
"""The stream of bars is lost between these minutes, while a position is held."""

_FILL: Final = re.compile(r"^\[PAPER \w+\] \[\w+\] (?:BUY|SELL) ")
_EXIT: Final = re.compile(r"^\[PAPER \w+\] \[\w+\] EXIT ")


def live(bench: Bench, settings: tuple[str, ...]) -> Figures:
    """`tbot run` for 45 minutes at Alpaca's venue: mails, pages, orders, exports and log."""
    home = bench.copy(bench.adopted, "live")
    if settings:
        done(home, "config", "set", *settings)
    market = SampleMarket(_SEED, _SYMBOLS)
    calendar, _ = short_day(_MINUTES)
    with open_day(broker_plugin("alpaca"), home, market, calendar, DAY) as (opened, script):
        servers = Servers.of(opened.clock, market.symbols)

        async def whole(day: BrokerDay) -> Any:
            await servers.start()
            store_credentials(home, day.venue, servers.inbox.port)
            _leave_request(home)
            try:
                return await live_day(day, servers, _LOST)
            finally:
                await servers.stop()

        outcome = script(whole)
        pages = [one.document for one in servers.pagerduty.requests]
    return {
        **_orders(home, outcome.summary.trades),
        **_messages(servers.inbox.mails, pages),
        **_files(home),
    }


def _leave_request(home: Path) -> None:
    # A request that the bot cannot read, which it refuses: a failure that no position depends on.
    folder = home / "control"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "disarm-unreadable.json").write_text("{", encoding="utf-8")


def _orders(home: Path, trades: Sequence[Any]) -> Figures:
    with journal_events(home) as events:
        kinds = Counter(one.kind for one in events)
    return {
        "trades": str(len(trades)),
        "orders sent": str(kinds[records.SENDING]),
        "entries that wait for a person": str(kinds[records.CONFIRMATION_ASKED]),
        "records of the cash share": str(kinds[records.CASH_SHARE]),
    }


def _messages(mails: Iterable[EmailMessage], pages: Sequence[Any]) -> Figures:
    texts = [str(mail["subject"]) for mail in mails]
    fills = sum(_FILL.search(text) is not None for text in texts)
    exits = sum(_EXIT.search(text) is not None for text in texts)
    return {
        "mails": str(len(texts)),
        "mails of fills": str(fills),
        "mails of exits": str(exits),
        "mails of a refused request": str(sum("disarm-unreadable" in text for text in texts)),
        "pages at PagerDuty": str(len(pages)),
    }


def _files(home: Path) -> Figures:
    ledger = [path.read_text(encoding="utf-8") for path in (home / "reports" / "ledger").glob("*.csv")]
    logs = [path.read_text(encoding="utf-8") for path in (home / "logs").glob("*.log")]
    text = "\n".join(logs)
    levels = [level for level in _LEVELS if f",{level}," in text or f'"level": "{level}"' in text]
    return {
        "trades exported": str(sum(len(text.splitlines()) - 1 for text in ledger)),
        "log files": str(len(logs)),
        "lines of the log": "none" if not text else "JSON" if text.startswith("{") else "CSV",
        "levels in the log": ", ".join(levels) or "none",
    }
