"""Figures of a running bot that are not in its journal: marks, current limits, and broker response times.

One small file beside the journal, rewritten about once a second by the bot that holds the instance's lock. It may be
missing or stale at any time, and no decision depends on it.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from tbot_core.errors import AccessError
from tbot_core.model import json_document
from tbot_core.model.types import ticks_of
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.journal.projections.book import SessionBook

FILE: Final = "gauges.json"
_SCHEMA: Final = 1
_MOST_BYTES: Final = 1_000_000
_BEYOND: Final = 10**15
_LETTERS: Final = 100
T = TypeVar("T")


@attrs.frozen(kw_only=True)
class BrokerGauge:
    """How a broker responds; None where a value is unknown or does not apply.

    `equity`: as last reported. `latency_s`: duration of the last request. `spare`: requests that could be sent now, of
    `per_minute` that the venue allows (0: no limit).
    """

    name: str
    equity: Decimal | None = None
    latency_s: float | None = None
    spare: int | None = None
    per_minute: int = 0


@attrs.frozen(kw_only=True)
class HostGauge:
    """The requests to a host of plugins that are `left` as the vendor says, of `per_minute` that it allows.

    `left` is None where it does not say. `paused_s`: so long the vendor has asked to wait; only protective orders are
    sent.
    """

    name: str
    left: int | None
    per_minute: int
    paused_s: float = 0.0


@attrs.frozen(kw_only=True)
class EntryQuote:
    """The latest quote of the symbol of an entry that needs a confirmation, and when it was received."""

    bid: Decimal
    ask: Decimal
    at: dt.datetime


@attrs.frozen(kw_only=True)
class Gauges:
    """A snapshot of a session; `journal` is the file name of its journal, `session` its date.

    `at`: when it was taken (not compared). `marks`: the prices at which positions are valued. `marked_at`: when the
    oldest of them was received, None if unknown (not compared). `gross`: cost of the positions, external holdings
    included. `clock_ahead_s`: how far this machine's clock is ahead of the broker's. The limits are those of the risk
    state. `quotes`: those of the entries that need a confirmation, by their ids.
    """

    journal: str
    session: str
    at: dt.datetime = attrs.field(eq=False)
    marks: Mapping[str, Decimal]
    daily_loss_limit: Decimal
    budget: Decimal
    most_trades: int
    most_positions: int
    marked_at: dt.datetime | None = attrs.field(default=None, eq=False)
    gross: Decimal | None = None
    vix: float | None = None
    clock_ahead_s: float | None = None
    brokers: tuple[BrokerGauge, ...] = ()
    hosts: tuple[HostGauge, ...] = ()
    quotes: Mapping[str, EntryQuote] = attrs.field(factory=dict)


def write_gauges(folder: Path, gauges: Gauges) -> None:
    """Replace the file, without waiting for the disk. Raises AccessError when it cannot be written."""
    document = {"schema": _SCHEMA} | attrs.asdict(gauges)
    filesystem.replace(folder / FILE, json.dumps(document, default=str).encode())


def read_gauges(folder: Path) -> Gauges | None:
    """Read the latest snapshot; None when it is missing or unreadable."""
    path = folder / FILE
    if not filesystem.is_present(path):
        return None
    try:
        raw = json_document.parse_json(filesystem.read_bytes(path, limit=_MOST_BYTES))
        return _gauges(raw) if raw["schema"] == _SCHEMA else None
    except (AccessError, ValueError, ArithmeticError, KeyError, TypeError, AttributeError):
        return None


def revalued_gauges(data: Path, journal: str, book: SessionBook) -> Gauges | None:
    """The gauges of the current session; positions of the book are valued at their marks. None without gauges."""
    found = read_gauges(data)
    if found is None or not book.in_session or (found.journal, found.session) != (journal, book.session["date"]):
        return None
    for symbol, price in found.marks.items():
        book.portfolio.mark(symbol, ticks_of(float(price)))
    return found


def _gauges(raw: Mapping[str, Any]) -> Gauges:
    return Gauges(
        journal=_text(raw["journal"]),
        session=_text(raw["session"]),
        at=_moment(raw["at"]),
        marked_at=_known(_moment, raw.get("marked_at")),
        marks={_text(symbol): _dollars(price) for symbol, price in raw["marks"].items()},
        daily_loss_limit=_dollars(raw["daily_loss_limit"]),
        budget=_dollars(raw["budget"]),
        most_trades=_count(raw["most_trades"]),
        most_positions=_count(raw["most_positions"]),
        gross=_known(_dollars, raw["gross"]),
        vix=_known(_figure, raw["vix"]),
        clock_ahead_s=_known(_figure, raw["clock_ahead_s"]),
        brokers=tuple(_broker(broker) for broker in raw["brokers"]),
        hosts=tuple(_host(host) for host in raw.get("hosts", ())),
        quotes={_text(name): _quote(one) for name, one in raw.get("quotes", {}).items()},
    )


def _quote(raw: Mapping[str, Any]) -> EntryQuote:
    return EntryQuote(bid=_dollars(raw["bid"]), ask=_dollars(raw["ask"]), at=_moment(raw["at"]))


def _broker(raw: Mapping[str, Any]) -> BrokerGauge:
    return BrokerGauge(
        name=_text(raw["name"]),
        equity=_known(_dollars, raw["equity"]),
        latency_s=_known(_figure, raw["latency_s"]),
        spare=_known(_count, raw["spare"]),
        per_minute=_count(raw["per_minute"]),
    )


def _host(raw: Mapping[str, Any]) -> HostGauge:
    name, left, per_minute = _text(raw["name"]), _known(_count, raw["left"]), _count(raw["per_minute"])
    return HostGauge(name=name, left=left, per_minute=per_minute, paused_s=_figure(raw.get("paused_s", 0.0)))


def _known(read: Callable[[Any], T], raw: Any) -> T | None:
    return None if raw is None else read(raw)


def _moment(raw: Any) -> dt.datetime:
    at = dt.datetime.fromisoformat(raw)
    if at.utcoffset() is None:
        raise ValueError("no zone")
    return at


def _text(raw: Any) -> str:
    if not isinstance(raw, str) or not raw.isprintable():
        raise TypeError("not text")
    return raw


def _dollars(raw: Any) -> Decimal:
    amount = Decimal(_text(raw))
    if not amount.is_finite() or not -_BEYOND < amount < _BEYOND or len(raw) > _LETTERS:
        raise ValueError("not an amount in USD")
    return amount


def _count(raw: Any) -> int:
    if type(raw) is not int or not -_BEYOND < raw < _BEYOND:
        raise ValueError("not a count")
    return raw


def _figure(raw: Any) -> float:
    if type(raw) not in {int, float} or not -_BEYOND < raw < _BEYOND:
        raise ValueError("not a number")
    return float(raw)
