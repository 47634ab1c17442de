"""What a running bot knows that its journal does not say: marks, limits as it has them, and how its brokers answer.

One small file beside the journal, written over about once a second by the bot that holds the instance's lock. It is no
record: it may be lost or old at any time, nothing is decided by it, and it never grows. Whoever looks on values by its
marks what the journal says is held.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core import documents
from tbot_core.errors import AccessError
from tbot_core.seams import disk

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "gauges.json"
SCHEMA: Final = 1
MOST_BYTES: Final = 1_000_000


@attrs.frozen(kw_only=True)
class BrokerGauge:
    """How a broker answers; None for what it has not said, or what does not apply to it.

    `equity`: as it was said last. `latency_s`: how long the last answer took. `spare`: so many requests could leave
    now, of `per_minute` that the venue allows (0: no limit).
    """

    name: str
    equity: Decimal | None = None
    latency_s: float | None = None
    spare: int | None = None
    per_minute: int = 0


@attrs.frozen(kw_only=True)
class Gauges:
    """One look at a session: `journal` is the name of its journal's file, `session` its date.

    `at`: when it was taken, which makes no difference. `marks` are the prices at which positions are valued. `gross`:
    what positions cost, with what is not tbot's in the accounts. `clock_ahead_s`: how far this machine's clock is ahead
    of the broker's. The limits are those of the risk state.
    """

    journal: str
    session: str
    at: dt.datetime = attrs.field(eq=False)
    marks: Mapping[str, Decimal]
    daily_loss_limit: Decimal
    budget: Decimal
    most_trades: int
    most_positions: int
    gross: Decimal | None = None
    vix: float | None = None
    clock_ahead_s: float | None = None
    brokers: tuple[BrokerGauge, ...] = ()


def write(folder: Path, gauges: Gauges) -> None:
    """Replace what was there; the disk is not waited for. Raises AccessError where it cannot be written."""
    document = {"schema": SCHEMA} | attrs.asdict(gauges)
    disk.replace(folder / FILE, json.dumps(document, default=str).encode())


def read(folder: Path) -> Gauges | None:
    """The latest look; None where there is none, or none that can be read."""
    path = folder / FILE
    if not disk.is_present(path):
        return None
    try:
        said = documents.read(disk.read_bytes(path, limit=MOST_BYTES))
        return _gauges(said) if said["schema"] == SCHEMA else None
    except (AccessError, ValueError, ArithmeticError, KeyError, TypeError, AttributeError):
        return None


def _gauges(said: Mapping[str, Any]) -> Gauges:
    brokers = tuple(BrokerGauge(**(one | {"equity": _amount(one["equity"])})) for one in said["brokers"])
    told = {name: said[name] for name in ("journal", "session", "most_trades", "most_positions", "vix")}
    return Gauges(
        **told,
        at=dt.datetime.fromisoformat(said["at"]),
        marks={symbol: Decimal(price) for symbol, price in said["marks"].items()},
        daily_loss_limit=Decimal(said["daily_loss_limit"]),
        budget=Decimal(said["budget"]),
        gross=_amount(said["gross"]),
        clock_ahead_s=said["clock_ahead_s"],
        brokers=brokers,
    )


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
