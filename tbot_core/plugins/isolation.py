"""Strategies and filters named by TBOT_PLUGINS_ISOLATE, which run in worker processes.

A run and a worker exchange a JSON text and plain arrays, never a pickle.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from datetime import time
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from tbot_core.contracts import Check, Context, Plugin
from tbot_core.contracts.setting import SettingKind, declarations, setting, text
from tbot_core.contracts.settings import StrategySettings
from tbot_core.errors import AccessError, PluginError, SettingsError
from tbot_core.model import json_document
from tbot_core.model.bars import Bars, Quotes
from tbot_core.model.day_facts import DailyBars, DayFacts, MarketView
from tbot_core.model.reasons import REASON_BY_CODE, Reason
from tbot_core.model.signals import Condition, ExitRules, Signals, Trigger
from tbot_core.model.window import Window
from tbot_core.plugins import trial_records
from tbot_core.plugins.discovery import ISOLATE_VARIABLE, EntryPointInfo, PluginListing, isolated_plugin_names
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import LoadedPlugin
from tbot_core.system import environ
from tbot_core.system.processes import WorkerProcess
from tbot_core.system.timeouts import call_within

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

PARTS: Final = ("open", "high", "low", "close", "volume", "vwap")
"""The fields of bars that a worker gets."""

_START_S: Final = 10.0

_ANYTHING: Final = text(pattern=r"[^\x00]{0,1000}", allowed="the plugin's limits")

_HEAD_BYTES: Final = 4 * 2**20

_BODY_BYTES: Final = 2**30

_SIZES: Final = struct.Struct("<IQ")

_CLASSES: Final[Mapping[str, type[Any]]] = {
    one.__name__: one
    for one in (Check, Condition, DailyBars, DayFacts, ExitRules, StrategySettings, Quotes, Signals, Trigger, Window)
}

_KINDS: Final = "fiubM"

_REMEDY: Final = "Plugins that need more than the contract's values cannot run in a process of their own."


@attrs.frozen(kw_only=True, eq=False)
class IsolatedStrategy:
    """A strategy in its worker process."""

    window: Window
    daily_bars: int
    _explains: bool = attrs.field(alias="explains")
    _screens: bool = attrs.field(alias="screens")
    _worker: PluginWorker = attrs.field(alias="worker")

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """The strategy's signals."""
        found: Signals = self._worker.request({"do": "scan", "since": since}, bars, day)
        return found

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:
        """The strategy's triggers; none if it does not explain itself."""
        found: Sequence[Trigger] = self._worker.request({"do": "triggers"}, bars, day) if self._explains else ()
        return found

    def screen(self, day: DayFacts) -> Sequence[Check]:
        """The strategy's own comparisons before the open; none if it has none."""
        checks: Sequence[Check] = self._worker.request({"do": "screen"}, None, day) if self._screens else ()
        return checks


@attrs.frozen(kw_only=True, eq=False)
class IsolatedFilter:
    """A filter in its worker process."""

    needs: frozenset[str]
    _worker: PluginWorker = attrs.field(alias="worker")

    def screen(self, day: DayFacts, symbols: tuple[str, ...], frame: StrategySettings) -> Sequence[Check]:
        """The filter's comparisons before the open."""
        checks: Sequence[Check] = self._worker.request({"do": "screen", "symbols": symbols, "frame": frame}, None, day)
        return checks

    def judge(self, signals: Signals, market: MarketView, frame: StrategySettings) -> Sequence[Check]:
        """The filter's comparisons at the signal."""
        request = {"do": "judge", "signals": signals, "frame": frame, "quotes": market.quotes}
        checks: Sequence[Check] = self._worker.request(request, market.bars, market.day)
        return checks


def isolated_plugins(wanted: Collection[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """The requested plugins that run in a worker process; raises SettingsError for an unknown name."""
    names = isolated_plugin_names()
    pairs = frozenset(pair for pair in wanted if pair[0] in {"strategy", "filter"} and pair[1] in names)
    known = frozenset(pair[1] for pair in sorted(pairs))
    if unknown := names - known:
        raise SettingsError(
            f"{ISOLATE_VARIABLE} names {', '.join(sorted(unknown))}, which is not a strategy or filter of this run.",
            "Name only enabled plugins: otherwise a misspelt plugin would run in the process of the bot.",
        )
    return pairs


def isolated_offers(
    pairs: Iterable[tuple[str, str]],
    listings: Sequence[PluginListing],
    folder: Path,
    kinds: Mapping[str, SettingKind[Any]],
) -> tuple[tuple[LoadedPlugin, ...], tuple[PluginFailure, ...]]:
    """The isolated plugins as recorded in the data folder, and failures for those without a record.

    `kinds` are those of the variables that the core knows; other values are validated only in the worker.
    """
    known, loaded, failures = trial_records.read_records(folder), [], []
    entries = {(listing.entry.kind, listing.entry.name): listing.entry for listing in listings}
    for pair in sorted(pairs):
        record = known.of(entries[pair])
        if record is None or record.description is None:
            words = "there is no record of it: `tbot plugins list --probe` tries it."
            failures.append(PluginFailure.said(entries[pair], "offer", record.error if record else words))
        elif record.description["needs"]["hosts"]:
            words = "it needs the network, which an isolated plugin does not have: run it without isolation."
            failures.append(PluginFailure.said(entries[pair], "offer", words))
        else:
            loaded.append(_loaded(entries[pair], record.description, kinds))
    return tuple(loaded), tuple(failures)


def _create_isolated(entry: EntryPointInfo, config: Any, context: Context) -> Any:  # noqa: ARG001  -- a worker gets no path of the instance
    # Create the plugin in a worker; raises PluginError on failure.
    texts = {one.name: one.kind.show(getattr(config, field)) for field, one in declarations(type(config)).items()}
    worker = PluginWorker(entry, texts, getattr(config, "window", None))
    facts = worker.request({"do": "hello"})
    if entry.kind == "filter":
        return IsolatedFilter(needs=frozenset(facts["needs"]), worker=worker)
    return IsolatedStrategy(
        window=facts["window"],
        daily_bars=facts["daily_bars"],
        explains=facts["explains"],
        screens=facts["screens"],
        worker=worker,
    )


class PluginWorker:
    """The worker process of one plugin: started on request, killed when it does not respond; receives only new data."""

    def __init__(self, entry: EntryPointInfo, texts: Mapping[str, str], window: Window | None) -> None:
        self._load = {"do": "load", "entry": _document(entry), "texts": dict(texts), "window": window}
        self._process: WorkerProcess | None = None
        self._facts: Mapping[str, Any] = {}
        self._session: object = None
        self._sent_minutes = 0
        self._day: DayFacts | None = None

    def request(self, request: dict[str, Any], bars: Bars | None = None, day: DayFacts | None = None) -> Any:
        """The plugin's response; raises PluginError if it or its process fails.

        A process that did not respond, or whose caller was interrupted, is killed: the next request starts another one.
        """
        try:
            process = self._process or self._start()
            if request["do"] == "hello":
                return self._facts
            request["day"] = None if day is self._day else day
            if bars is not None:
                request["bars"] = self._new_bars(bars)
            answer = _exchange(process, request)
        except BaseException:
            self.end()
            raise
        self._day = day
        if "fault" in answer:
            raise PluginError(f"In its worker: {answer['fault']}")
        return answer["answer"]

    def end(self) -> None:
        """Kill the process."""
        process, self._process = self._process, None
        self._session, self._sent_minutes, self._day = None, 0, None
        if process is not None:
            process.end()

    def __del__(self) -> None:
        self.end()

    def _start(self) -> WorkerProcess:
        path = os.pathsep.join(part for part in sys.path if part)  # seam: the separator is a constant
        command = [sys.executable, "-P", "-c", "from tbot_core.plugins.isolation_worker import main; main()"]
        try:
            process = self._process = WorkerProcess(
                command, environment=environ.minimal_environment() | {"PYTHONPATH": path}
            )
        except AccessError as fault:
            raise PluginError(fault.message, fault.remedy) from fault
        answer = call_within(_START_S, lambda: _exchange(process, self._load))
        if "fault" in answer:
            raise PluginError(f"In its worker: {answer['fault']}")
        self._facts = answer["answer"]
        return process

    def _new_bars(self, bars: Bars) -> Mapping[str, Any]:
        # The minutes not sent yet; all of them for another session, or a block of sessions.
        session, whole = bars.session_key, bars.field("close").ndim > 2
        fresh = whole or session is not self._session or bars.minutes < self._sent_minutes
        since = 0 if fresh else self._sent_minutes
        self._session, self._sent_minutes = session, bars.minutes
        fields = {name: bars.field(name)[since:] for name in PARTS}
        return {"fresh": fresh, "symbols": bars.symbols, "fields": fields}


def send_message(write: Callable[[bytes], None], message: Any) -> None:
    """Send a message; raises PluginError for unsupported content, and for a message that is too large."""
    arrays: list[bytes] = []
    try:
        head = json.dumps(_plain(message, arrays)).encode()
    except RecursionError as fault:
        raise PluginError("A message to or from a worker is nested too deeply.", _REMEDY) from fault
    size = sum(map(len, arrays))
    _bounded(len(head), size)
    write(b"".join((_SIZES.pack(len(head), size), head, *arrays)))


def receive_message(read: Callable[[int], bytes]) -> Any:
    """The next message; None after the other side has closed. Raises PluginError for an invalid one."""
    sizes = read(_SIZES.size)
    if len(sizes) < _SIZES.size:
        return None
    length, size = _SIZES.unpack(sizes)
    _bounded(length, size)
    head, body = read(length), read(size)
    try:
        return _value(json_document.parse_json(head), _Body(body))
    except (KeyError, TypeError, ValueError) as fault:
        raise PluginError(f"A worker's message cannot be read: {type(fault).__name__}: {fault}", _REMEDY) from fault


def _loaded(
    entry: EntryPointInfo, description: Mapping[str, Any], kinds: Mapping[str, SettingKind[Any]]
) -> LoadedPlugin:
    fields: dict[str, Any] = {}
    for number, one in enumerate(description["settings"]):
        kind = kinds.get(one["name"], _ANYTHING)
        fields[f"setting_{number}"] = setting(
            one["name"], kind, default=one["default"], doc=one["doc"], file=one["file"]
        )
    if entry.kind == "strategy":
        fields["window"] = attrs.field(default=None)
    config = attrs.make_class("Isolated", fields, frozen=True, kw_only=True)
    plugin = Plugin(
        name=entry.name,
        summary=description["summary"],
        config=config,
        create=partial(_create_isolated, entry),
        capabilities=frozenset(description["capabilities"]),
        tables=tuple(description.get("tables", ())),
    )
    return LoadedPlugin(entry=entry, plugin=plugin, subject=object())


def _document(entry: EntryPointInfo) -> dict[str, Any]:
    return attrs.asdict(entry) | {"requires": list(entry.requires)}


def _exchange(process: WorkerProcess, message: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        send_message(process.write, dict(message))
        answer = receive_message(process.read)
    except AccessError as fault:
        raise PluginError(f"In its worker: {fault.message}") from fault
    if not isinstance(answer, dict) or len(answer) != 1 or not answer.keys() <= {"answer", "fault"}:
        raise PluginError("Its worker did not respond.")
    return answer


class _Body:
    # The arrays of a message, one after the other: none twice, so that together they need no more than was sent.
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._taken = 0

    def take(self, kind: np.dtype[Any], count: int, start: int) -> Any:
        if start != self._taken:
            raise ValueError(f"an array at byte {start} instead of {self._taken}")
        array = np.frombuffer(self._data, kind, count, start)
        self._taken += array.nbytes
        return array.copy()


def _bounded(head: int, body: int) -> None:
    if head > _HEAD_BYTES or body > _BODY_BYTES:
        raise PluginError(f"A worker's message of {head + body} bytes is too large.", _REMEDY)


def _plain(value: Any, arrays: list[bytes]) -> Any:  # noqa: PLR0911  one for each kind of value
    # The value for JSON; types that JSON lacks become an object with one key that names the type.
    match value:
        case Reason():
            return {"reason": int(value)}
        case None | bool() | int() | float() | str():
            return value
        case Decimal():
            return {"decimal": str(value)}
        case time():
            return {"time": value.isoformat()}
        case np.ndarray() if value.dtype.kind in _KINDS:
            start = sum(map(len, arrays))
            arrays.append(np.ascontiguousarray(value).tobytes())
            return {"array": [value.dtype.str, list(value.shape), start]}
        case np.number() | np.bool_():
            return value.item()
        case tuple() | list():
            return {type(value).__name__: [_plain(one, arrays) for one in value]}
        case dict():
            return {"dict": {str(name): _plain(one, arrays) for name, one in value.items()}}
        case _ if _CLASSES.get(type(value).__name__) is type(value):
            fields = {field.name: _plain(getattr(value, field.name), arrays) for field in attrs.fields(type(value))}
            return {"of": [type(value).__name__, fields]}
        case _:
            raise PluginError(f"An object of type {type(value).__name__} cannot be sent to a worker.", _REMEDY)


def _value(plain: Any, body: _Body) -> Any:  # noqa: PLR0911  one for each kind of value
    if not isinstance(plain, dict):
        return plain
    ((kind, inner),) = plain.items()
    match kind:
        case "reason":
            return REASON_BY_CODE[inner]
        case "decimal":
            return Decimal(inner)
        case "time":
            return time.fromisoformat(inner)
        case "array":
            return _array(inner, body)
        case "tuple":
            return tuple(_value(one, body) for one in inner)
        case "list":
            return [_value(one, body) for one in inner]
        case "dict":
            return {name: _value(one, body) for name, one in inner.items()}
        case _:
            name, fields = inner
            return _CLASSES[name](**{field: _value(one, body) for field, one in fields.items()})


def _array(inner: Any, body: _Body) -> Any:
    name, shape, start = inner
    kind = np.dtype(name)
    if kind.kind not in _KINDS or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"an array of {name} and shape {shape}")
    count = int(np.prod(shape, dtype=object)) if shape else 1
    return body.take(kind, count, start).reshape(shape)
