"""The entries that wait for a person, with what the person needs to decide: money at stake, time left, price now."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tbot_core.errors import TbotError
from tbot_core.instance import Instance
from tbot_core.instance.control_folder import known_control_folder
from tbot_core.journal.gauges import EntryQuote, read_gauges
from tbot_core.journal.projection import fold
from tbot_core.journal.projections.approvals import recall_confirmations
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.records import signal_of
from tbot_core.marketdata import received_bars, received_files
from tbot_core.model.formatting import money_text
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Leg, Side
from tbot_core.reports.trade_levels import planned_level
from tbot_core.status.risk_state import read_control_folder
from tbot_core.status.runs import bot_time, current_run, open_run_file, received_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tbot_core.engine.control import ControlRequest
    from tbot_core.journal.store import Event
    from tbot_core.status import Document
    from tbot_core.trading.orders import OrderRecord


def confirmations_document(home: Path | None, now: dt.datetime) -> Document:
    """The entries that are `open` now, the first to expire first, and those `decided` in this session, latest first.

    `worth` is the amount that an entry buys or sells, `risk` the loss at its stop, both at its price; `left_s` the
    seconds until it expires. `last` is the price now: the side of the latest quote that the entry would pay, else the
    close of the last minute, None if unknown; `last_of` says which (ask, bid or close), `last_at` of when it is.
    `running`: whether a bot runs, that could act on an answer; `answer` the one that lies waiting for a bot, with verb
    and actor, None without one. Of a decided entry that was sent, `quantity` is what was sent and `filled` how much of
    it was traded; `working`: the rest may still be.
    """
    instance = known_control_folder(Instance.at(home))
    running = instance.lock_holder is not None
    file = current_run(instance)
    if file is None:
        return {"running": running, "open": [], "decided": []}
    with open_run_file(file) as journal:
        events = list(journal.events())
    known = recall_confirmations(events)
    orders = _entry_orders(events) if any(_is_sent(one) for one in known.decided.values()) else {}
    kept = read_control_folder(instance.control).answers
    now = bot_time(instance, now)
    waiting = known.open_entries(now)
    closes = _last_closes(received_of(instance, file), waiting[0]) if waiting else {}
    gauges = read_gauges(instance.data)
    quotes = gauges.quotes if gauges is not None and gauges.journal == file.path.name else {}
    shown = [
        _entry(one, _price_now(one, quotes, closes), now) | {"answer": _answer(kept.get(one["id"]))} for one in waiting
    ]
    decided = [
        {"id": name, **_outcome(known.decided[name], orders), **_signal(one)}
        for name, one in reversed(known.entries.items())
        if name in known.decided
    ]
    return {"running": running, "open": sorted(shown, key=lambda one: one["left_s"]), "decided": decided}


def _is_sent(decision: Mapping[str, Any]) -> bool:
    return bool(decision["reason"] == Reason.ALLOWED.name and decision.get("sizing"))


def _entry_orders(events: Iterable[Event]) -> dict[str, list[OrderRecord]]:
    # The entry orders of the session by the text of their signal.
    found: dict[str, list[OrderRecord]] = {}
    for order in fold(events, SessionBook()).orders.values():
        if order.order.leg is Leg.ENTRY and order.order.signal is not None:
            found.setdefault(order.order.signal.text, []).append(order)
    return found


def _outcome(decision: Mapping[str, Any], orders: Mapping[str, Sequence[OrderRecord]]) -> Document:
    # What became of an entry, in whose words, how much was sent, and how much of it was traded.
    outcome = {"reason": decision["reason"], "words": decision["words"]}
    if not _is_sent(decision):
        return outcome | {"quantity": None, "filled": None, "working": False}
    own = orders.get(signal_of(decision["signal"]).text, ())
    filled = sum((record.filled for record in own), Decimal(0))
    working = any(not record.terminal for record in own)
    return outcome | {"quantity": decision["sizing"]["quantity"], "filled": f"{filled:f}", "working": working}


def _answer(request: ControlRequest | None) -> Document | None:
    return None if request is None else {"verb": request.verb.value, "actor": request.actor}


def _price_now(entry: Mapping[str, Any], quotes: Mapping[str, EntryQuote], closes: Mapping[str, Document]) -> Document:
    quote = quotes.get(entry["id"])
    if quote is None:
        return closes.get(entry["signal"]["symbol"], {"last": None, "last_of": "", "last_at": None})
    side = "ask" if entry["side"] == Side.LONG.word else "bid"
    price = quote.ask if side == "ask" else quote.bid
    return {"last": str(price), "last_of": side, "last_at": quote.at.isoformat()}


def _signal(entry: Mapping[str, Any]) -> Document:
    signal = entry["signal"]
    return {"strategy": signal["strategy"], "symbol": signal["symbol"], "side": entry["side"]}


def _entry(entry: Mapping[str, Any], last: Document, now: dt.datetime) -> Document:
    price, shares = Decimal(str(entry["price"])), _decimal(entry["quantity"])
    side = Side[entry["side"].upper()]
    stop, target = (planned_level(entry[name], side) for name in ("stop", "target"))
    return {
        **_signal(entry),
        "id": entry["id"],
        "quantity": entry["quantity"],
        "price": str(price),
        "stop": None if stop is None else str(stop),
        "target": None if target is None else str(target),
        "worth": None if shares is None else money_text(price * shares),
        "risk": None if shares is None or stop is None else money_text(abs(price - stop) * shares),
        **last,
        "expires": entry["expires"],
        "left_s": max(0, int((dt.datetime.fromisoformat(entry["expires"]) - now).total_seconds())),
    }


def _decimal(value: object) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _last_closes(folder: Path, entry: Mapping[str, Any]) -> dict[str, Document]:
    # The closes of the last minute that was received; a recording that cannot be read has none.
    path = received_files.recorded_file(folder, dt.date.fromisoformat(entry["signal"]["session"]))
    try:
        found = None if path is None else received_bars.read_ends(path)
    except TbotError:
        found = None
    if found is None or found.with_bars is None:
        return {}
    minute = found.with_bars.minute
    at = found.header.session.moment(minute.index + 1).isoformat()
    closes = zip(found.header.symbols, minute.close.tolist(), strict=True)
    return {
        symbol: {"last": str(Decimal(str(close))), "last_of": "close", "last_at": at}
        for symbol, close in closes
        if not math.isnan(close)
    }
