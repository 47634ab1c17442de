"""Events: runs and sessions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tbot_core.journal.codec import EMPTY, EventFacts, Facts, FillFacts, fact
from tbot_core.model.types import Instrument, SignalId
from tbot_core.model.window import Window


class RunStarted(EventFacts):
    """A run began: its settings as text, its data, and the feed request. `books`: the file of simulated accounts."""

    kind = "run_started"

    run_id: str
    mode: str
    equity: Decimal
    settings_hash: str
    settings: Mapping[str, str]
    tables: Mapping[str, Any]
    data_hash: str
    source: str
    simulated: bool
    identity: str
    notes: tuple[str, ...]
    request: Mapping[str, Any]
    silent_channels: tuple[str, ...] = ()
    books: str | None = None


class RunFinished(EventFacts):
    """A run ended after its last session."""

    kind = "run_finished"

    equity: Decimal


class RunStopped(EventFacts):
    """A run was stopped; `open` symbols are held, `unconfirmed` says why that is not known."""

    kind = "stopped"

    open: tuple[str, ...]
    unconfirmed: str = fact(default="", always=True)


class TradedAccount(Facts):
    """An account that a session trades, and its equity at the open."""

    account: str
    equity: Decimal


class CarriedPosition(FillFacts):
    """A position held at the open, as if it had been bought at its last mark.

    `instrument`: what is held, None for the signal's own stock.
    """

    signal: SignalId
    instrument: Instrument | None = None


class SessionOpened(EventFacts):
    """A session began: its hours, accounts, and the positions that the last session could not close.

    `buying_power`: None where the broker reports none. `accounts`: all of them by broker, where there are several.
    """

    kind = "session_opened"

    date: dt.date
    primary: str = fact(default="", always=True)
    account: str | None = fact(default=None, always=True)
    open: dt.datetime
    close: dt.datetime
    minutes: int
    symbols: int
    equity: Decimal
    buying_power: Decimal | None = fact(default=None, always=True)
    state: str
    windows: Mapping[str, Window]
    first_live_day_cap: Decimal | None = None
    carried: tuple[CarriedPosition, ...] = ()
    accounts: Mapping[str, TradedAccount] = EMPTY


class SessionClosed(EventFacts):
    """A session ended; `open` symbols are still held. `without_bars`: denials of symbols without a bar, by reason."""

    kind = "session_closed"

    date: dt.date
    equity: Decimal
    cash: Decimal
    pnl: Decimal
    trades: int
    open: tuple[str, ...] = fact(default=(), always=True)
    account: str = fact(default="", always=True)
    without_bars: Mapping[str, int] = EMPTY


class Screened(EventFacts):
    """Before the bell: how many symbols a strategy may enter, and how many each reason denied."""

    kind = "screened"

    strategy: str
    candidates: int
    reasons: Mapping[str, int]


class NearMiss(Facts):
    """A symbol that did not trigger: the closest rule, its minute, and the relative distance to it."""

    symbol: str
    rule: str
    side: int
    minute: int
    distance: float


class WindowClosed(EventFacts):
    """A strategy's window ended: near misses, closest first, and the symbols whose first bar was a bad print."""

    kind = "window_closed"

    strategy: str
    candidates: int
    triggers: int
    near_misses: tuple[NearMiss, ...]
    bad_prints: tuple[str, ...] = fact(default=(), always=True)


class MinutesMissed(EventFacts):
    """Minutes that were not processed, `first` included and `until` not."""

    kind = "gap"

    session: dt.date
    first: int = fact(key="from")
    until: int = fact(key="to")


class UniverseCounts(Facts):
    """How many symbols a source has, how many are left out by which reason, and how many remain."""

    listed: int
    left_out: Mapping[str, int]
    subscribed: int
    limit: int
    limited_by: str


class UnknownVix(Facts):
    """The day whose VIX is not known, and the strategies that will not enter without it."""

    day: dt.date
    strategies: tuple[str, ...]


class DeniedShorts(Facts):
    """How many short signals of a strategy were denied for its SHORT_TYPE."""

    strategy: str
    short_type: str
    denied: int


class ShortDenials(Facts):
    """The short signals denied in so many sessions, by strategy."""

    sessions: int
    strategies: tuple[DeniedShorts, ...]


def _has_stored_vix(facts: Ready) -> bool:
    return not facts.vix_live


class Ready(EventFacts):
    """A session is ready to trade: what it will trade with.

    `vix_live`: the VIX is asked for at each window; otherwise `vix` is that of `vix_day`, None where it is not known.
    `worst_day`: the largest loss that the limits allow; `not_shortable`: symbols by reason.
    """

    kind = "ready"

    session: dt.date
    mode: str = fact(default="", always=True)
    armed: dt.date | None = fact(default=None, always=True)
    equity: Decimal
    feed: str = fact(default="", always=True)
    feed_quality: str | None = None
    request_limit: str = ""
    windows: tuple[str, ...]
    worst_day: Decimal | None = fact(default=None, always=True)
    first_live_day_cap: Decimal | None = None
    vix_live: bool = False
    vix: float | None = fact(default=None, written_if=_has_stored_vix)
    vix_day: dt.date | None = None
    vix_source: str | None = None
    vix_unknown: UnknownVix | None = None
    universe: UniverseCounts | None = None
    facts: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    positions: tuple[str, ...]
    stuck: tuple[str, ...]
    shorts_denied: ShortDenials | None = None
    not_shortable: Mapping[str, tuple[str, ...]] = EMPTY


class NotReady(EventFacts):
    """A session is not ready to trade."""

    kind = "not_ready"

    session: dt.date
    reasons: tuple[str, ...]


class HoursShortened(EventFacts):
    """The broker trades for fewer hours than the exchange."""

    kind = "calendar"

    date: dt.date
    words: str


class HolidayReported(EventFacts):
    """The exchange is closed on a day; `next` is the next session."""

    kind = "holiday"

    date: dt.date
    name: str
    next: dt.date


class SettingsEdited(EventFacts):
    """The settings' files changed: from and to by name, None where it is not set; `fault`: why they are invalid."""

    kind = "settings"

    changes: Mapping[str, tuple[str | None, str | None]]
    fault: str


class PluginFailed(EventFacts):
    """A call of a plugin failed: the `turn`-th of that name at its moment. `off`: it is not called again."""

    kind = "plugin_failed"

    plugin: str
    call: str
    turn: int
    error: str
    off: bool


class DriftMeasured(EventFacts):
    """How a session's trades differ from those of a shadow run, which had `minutes` of the session's `of_minutes`.

    `trades` are the rows of the drift's document; distances are means in basis points, None without a trade in both.
    """

    kind = "drift"

    date: dt.date
    account: str
    minutes: int
    of_minutes: int
    note: str
    trades: tuple[Mapping[str, Any], ...]
    both: int
    missing: int
    extra: int
    entry_bps: float | None
    exit_bps: float | None
    pnl: Decimal
    expected_pnl: Decimal
