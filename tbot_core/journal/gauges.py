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
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from tbot_core.errors import AccessError
from tbot_core.model import json_document
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE: Final = "gauges.json"
SCHEMA: Final = 1
MOST_BYTES: Final = 1_000_000
_BEYOND: Final = 10**15
_LETTERS: Final = 100
T = TypeVar("T")


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


def write_gauges(folder: Path, gauges: Gauges) -> None:
    """Replace what was there; the disk is not waited for. Raises AccessError where it cannot be written."""
    document = {"schema": SCHEMA} | attrs.asdict(gauges)
    filesystem.replace(folder / FILE, json.dumps(document, default=str).encode())


def read_gauges(folder: Path) -> Gauges | None:
    """The latest look; None where there is none, or none that can be read."""
    path = folder / FILE
    if not filesystem.is_present(path):
        return None
    try:
        said = json_document.parse_json(filesystem.read_bytes(path, limit=MOST_BYTES))
        return _gauges(said) if said["schema"] == SCHEMA else None
    except (AccessError, ValueError, ArithmeticError, KeyError, TypeError, AttributeError):
        return None


def _gauges(said: Mapping[str, Any]) -> Gauges:
    at = dt.datetime.fromisoformat(said["at"])
    if at.utcoffset() is None:
        raise ValueError("no zone")
    return Gauges(
        journal=_text(said["journal"]),
        session=_text(said["session"]),
        at=at,
        marks={_text(symbol): _dollars(price) for symbol, price in said["marks"].items()},
        daily_loss_limit=_dollars(said["daily_loss_limit"]),
        budget=_dollars(said["budget"]),
        most_trades=_count(said["most_trades"]),
        most_positions=_count(said["most_positions"]),
        gross=_known(_dollars, said["gross"]),
        vix=_known(_figure, said["vix"]),
        clock_ahead_s=_known(_figure, said["clock_ahead_s"]),
        brokers=tuple(_broker(one) for one in said["brokers"]),
    )


def _broker(said: Mapping[str, Any]) -> BrokerGauge:
    return BrokerGauge(
        name=_text(said["name"]),
        equity=_known(_dollars, said["equity"]),
        latency_s=_known(_figure, said["latency_s"]),
        spare=_known(_count, said["spare"]),
        per_minute=_count(said["per_minute"]),
    )


def _known(read: Callable[[Any], T], said: Any) -> T | None:
    return None if said is None else read(said)


def _text(said: Any) -> str:
    if not isinstance(said, str) or not said.isprintable():
        raise TypeError("not text")
    return said


def _dollars(said: Any) -> Decimal:
    amount = Decimal(_text(said))
    if not amount.is_finite() or not -_BEYOND < amount < _BEYOND or len(said) > _LETTERS:
        raise ValueError("not an amount in USD")
    return amount


def _count(said: Any) -> int:
    if type(said) is not int or not -_BEYOND < said < _BEYOND:
        raise ValueError("not a count")
    return said


def _figure(said: Any) -> float:
    if type(said) not in {int, float} or not -_BEYOND < said < _BEYOND:
        raise ValueError("not a number")
    return float(said)
