"""Backtests, replays, downloads and imports of bars that run as a process of their own, one at a time in an instance.

The process is the command line. It outlives who started it, and holds a lock until it ends in any way, so that its
state is read from the lock and its files: request, progress, output and errors in `data/simulations`. The file of an
import is in `data/uploads` until its end.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import sys
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import attrs

from tbot_core.actions.backtests import installed_strategy
from tbot_core.actions.bar_results import download_sentences, import_sentences
from tbot_core.errors import AccessError, UsageError
from tbot_core.instance import Instance
from tbot_core.instance.findings import printable_value
from tbot_core.instance.sources import find_instance
from tbot_core.journal import records
from tbot_core.journal.events.sessions import RunStarted
from tbot_core.journal.store import NO_ROOM_BYTES
from tbot_core.marketdata.store.manifest import ADJUSTMENTS, VOLUMES
from tbot_core.marketdata.store.source_readers import SUFFIXES, stem_of, suffix_of, zone_fault
from tbot_core.model import json_document
from tbot_core.model.dates import day_range, parse_date, parse_symbols
from tbot_core.model.types import is_symbol
from tbot_core.status import Document, runs
from tbot_core.system import environ, filesystem, processes, random, redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


FOLDER: Final = "simulations"
_UPLOADS: Final = "uploads"
_MOST_KEPT: Final = 50
"""How many of the latest are kept; the files of older ones are removed when one is started."""

_PROGRAM: Final = (sys.executable, "-P", "-m", "tbot_core")
Kind = Literal["backtest", "replay", "download"]
_IMPORT: Final = "import"
_RESULTS: Final = {"download": "bars", _IMPORT: "files"}
_LARGEST_SEED: Final = 2**32 - 1
_ID: Final = re.compile(r"\d{8}T\d{6}")
_ERROR_LINES: Final = 6
_LONGEST_ZONE: Final = 60
_ARRIVING: Final = ".part"
_TAKEN: Final = "_"


@attrs.frozen(kw_only=True)
class SimulationRequest:
    """What is to be simulated: stored sessions of a range, as a backtest or as a replay; or which of them to download.

    `symbols` empty: UNIVERSE, else all stored ones, or those that a session would subscribe. `strategy` "":
    STRATEGY_SEQUENCE; a backtest only. `seed` None: SEED.
    """

    kind: Kind
    first: dt.date
    last: dt.date
    symbols: tuple[str, ...] = ()
    strategy: str = ""
    seed: int | None = None

    @classmethod
    def of_texts(cls, texts: Mapping[str, str]) -> SimulationRequest:
        """The request of a form: kind, first, last, symbols, strategy and seed. Raises UsageError for a bad field."""
        given = {name: texts.get(name, "").strip() for name in ("kind", "first", "last", "symbols", "strategy", "seed")}
        kind = _kind(given["kind"])
        if kind == "replay" and given["strategy"]:
            raise UsageError("A replay trades all strategies of the settings.", "Leave the strategy empty.")
        if kind == "download" and (given["strategy"] or given["seed"]):
            raise UsageError("A download has neither a strategy nor a seed.", "Leave both empty.")
        first, last = day_range(given["first"], given["last"])
        return cls(
            kind=kind,
            first=first,
            last=last,
            symbols=parse_symbols(given["symbols"] or None),
            strategy=installed_strategy(given["strategy"]) if given["strategy"] else "",
            seed=_seed(given["seed"]),
        )

    def arguments(self, home: Path, progress: Path) -> list[str]:
        """The arguments of the command line."""
        days = [f"--from={self.first}", f"--to={self.last}", f"--progress={progress}"]
        command = {
            "backtest": ["backtest", *days],
            "replay": ["run", f"--replay={self.first}..{self.last}", "--speed=max"],
            "download": ["data", "download", *days],
        }[self.kind]
        given = {"--symbols": ",".join(self.symbols), "--strategy": self.strategy, "--seed": self.seed}
        return [
            *command,
            *(f"{name}={value}" for name, value in given.items() if value not in {"", None}),
            f"--home={home}",
            "--json",
        ]

    def document(self) -> Document:
        """The request for JSON."""
        found = attrs.asdict(self)
        return found | {"first": str(self.first), "last": str(self.last), "symbols": list(self.symbols)}


@attrs.frozen(kw_only=True)
class ReceivedFile:
    """A file that arrived for an import: where it is, and its name where it came from, without the ending."""

    path: Path
    stem: str

    @property
    def suffix(self) -> str:
        """The ending by which it is read, such as .csv.gz."""
        return suffix_of(self.path)


@contextmanager
def receive_file(home: Path | None, name: str, size: int) -> Iterator[tuple[ReceivedFile, Callable[[bytes], None]]]:
    """A new file for an import, of at most `size` bytes, and what appends to it; one at a time in an instance.

    `name` is any text; its ending alone is used. The file is removed when the context ends, unless an import has
    started with it. Raises UsageError for a name without an ending that is known and while another file arrives,
    AccessError where the disk has too little space.
    """
    instance = find_instance(home)
    own = name.replace("\\", "/").rpartition("/")[2]
    suffix = suffix_of(Path(own))
    if not suffix:
        kinds = ", ".join(SUFFIXES)
        raise UsageError(f"The name {printable_value(own)} ends in none of {kinds}.", "Choose a file of these kinds.")
    folder = instance.data / _UPLOADS
    for one in (instance.data, folder):
        filesystem.make_folder(one)
    with filesystem.try_lock(folder) as free:
        if not free:
            raise UsageError("Another file arrives at this moment.", "Wait for its end, and choose yours again then.")
        _remove_uploads(instance, parts=True)
        if (left := filesystem.free_bytes(folder)) < size + 2 * NO_ROOM_BYTES:
            message = f"The disk has {left / 1e6:,.0f} MB free, too few for a file of {size / 1e6:,.0f} MB."
            raise AccessError(message, "Free some space, or import the data in parts.")
        path = folder / f"{random.entropy(8).hex()}{_ARRIVING}{suffix}"
        with filesystem.passing_file(path) as write:
            yield ReceivedFile(path=path, stem=printable_value(stem_of(Path(own)))), write


@attrs.frozen(kw_only=True)
class ImportRequest:
    """A file whose bars or facts are to be imported; None and "" are the defaults of `tbot data import`."""

    file: ReceivedFile
    adjustment: str = "raw"
    volume: str = "consolidated"
    zone: str = ""
    as_of: dt.date | None = None
    symbol: str = ""
    replace: bool = False
    kind: Literal["import"] = _IMPORT

    @classmethod
    def of_texts(cls, file: ReceivedFile, texts: Mapping[str, str]) -> ImportRequest:
        """The request of a form: adjustment, volume, zone, as_of, symbol, and replace, which is "yes" or "".

        The symbol is by default the file's name, where that is one. Raises UsageError for a bad field.
        """
        names = ("adjustment", "volume", "zone", "as_of", "symbol", "replace")
        given = {name: texts.get(name, "").strip() for name in names}
        for name, allowed in (("adjustment", ADJUSTMENTS), ("volume", VOLUMES)):
            if given[name] not in {"", *allowed}:
                raise UsageError(f"Unknown {name} {printable_value(given[name])}.", f"Use {' or '.join(allowed)}.")
        if given["zone"] and (fault := zone_fault(given["zone"][:_LONGEST_ZONE])):
            raise UsageError(f"{fault}.", "Give a name such as America/New_York or UTC.")
        symbol = given["symbol"].upper()
        if symbol and not is_symbol(symbol):
            raise UsageError(f"{printable_value(symbol)} is not a symbol.", "Write it as the exchange does: BRK.B.")
        own = file.stem.upper()
        return cls(
            file=file,
            adjustment=given["adjustment"] or "raw",
            volume=given["volume"] or "consolidated",
            zone=given["zone"],
            as_of=parse_date(given["as_of"]) if given["as_of"] else None,
            symbol=symbol or (own if is_symbol(own) else ""),
            replace=given["replace"] == "yes",
        )

    def arguments(self, home: Path, progress: Path) -> list[str]:
        """The arguments of the command line."""
        given = {"--zone": self.zone, "--as-of": self.as_of or "", "--symbol": self.symbol}
        return [
            "data",
            "import",
            f"{_kept(Instance.at(home), progress.stem, self.file.suffix)}",
            f"--adjustment={self.adjustment}",
            f"--volume={self.volume}",
            *(f"{name}={value}" for name, value in given.items() if value),
            *(["--replace"] if self.replace else []),
            f"--progress={progress}",
            f"--home={home}",
            "--json",
        ]

    def document(self) -> Document:
        """The request for JSON; `file` is the file's name where it came from."""
        found = attrs.asdict(self, filter=attrs.filters.exclude("file"))
        as_of = None if self.as_of is None else str(self.as_of)
        return found | {"file": f"{self.file.stem}{self.file.suffix}", "as_of": as_of}


def start_simulation(
    home: Path | None,
    request: SimulationRequest | ImportRequest,
    actor: str,
    now: dt.datetime,
    program: Sequence[str] = _PROGRAM,
) -> str:
    """Start it and return its id; `program` is tbot's command line. The file of an import is removed after its end.

    Raises UsageError while another one runs, or a bot beside a replay, AccessError if it cannot be started.
    """
    instance = find_instance(home)
    _assert_free(instance, request.kind)
    folder = _folder(instance)
    filesystem.make_folder(folder)
    name = now.astimezone(dt.UTC).strftime("%Y%m%dT%H%M%S")
    progress, errors = _file(folder, name, "progress"), _file(folder, name, "errors")
    command = (*program, *request.arguments(instance.home, progress))
    about = {"request": request.document(), "actor": actor, "started": now.isoformat(), "process": None}

    def prepare() -> Callable[[], None] | None:
        _write(_file(folder, name, "request"), about)
        if not isinstance(request, ImportRequest):
            return None
        filesystem.rename(request.file.path, _kept(instance, name, request.file.suffix))
        return partial(_remove_uploads, instance)

    process = processes.start_exclusive(
        command,
        environment=environ.own_environment(),
        lock=_lock(folder),
        streams=(_file(folder, name, "output"), errors),
        prepare=prepare,
    )
    if process is None:
        raise UsageError("Another backtest, replay, download or import runs.", "Wait for its end, or cancel it.")
    _write(_file(folder, name, "request"), about | {"process": process})
    remove_older(instance.home)
    return name


def _assert_free(instance: Instance, kind: str) -> None:
    if kind == "replay" and instance.lock_holder is not None:
        raise UsageError(
            "A bot runs here, and a replay needs the instance for itself.",
            "Start a backtest, which runs beside the bot, or replay after the bot has ended.",
        )


def cancel_simulation(home: Path | None, name: str, actor: str, now: dt.datetime) -> bool:
    """Interrupt a simulation as Ctrl-C does; False if it no longer runs. Raises UsageError for an unknown one."""
    folder = _folder(Instance.at(home))
    found = _about(folder, name)
    if not _is_running(folder, name) or found["process"] is None:
        return False
    _write(_file(folder, name, "cancelled"), {"actor": actor, "time": now.isoformat()})
    processes.end_group(found["process"])
    return True


def simulation_documents(home: Path | None) -> list[Document]:
    """The simulations that were started this way, the latest first."""
    folder = _folder(Instance.at(home))
    return [simulation_document(home, name) for name in _names(folder)]


def simulation_document(home: Path | None, name: str) -> Document:
    """One of them: `state` is running, done, cancelled or failed; `progress` while it runs; `result` and `errors`.

    The progress of a backtest or replay has the `notes` on its data that the command line prints first, if any.
    `result` is the document that `--json` prints, of a run with the number of its trades in their place, of a download
    or import with its `sentences`. Raises UsageError for an unknown one.
    """
    instance = Instance.at(home)
    folder = _folder(instance)
    about, running = _about(folder, name), _is_running(folder, name)
    result = None if running else _result(folder, name, about["request"])
    cancelled = filesystem.exists(_file(folder, name, "cancelled"))
    state = "running" if running else "done" if result is not None else "cancelled" if cancelled else "failed"
    return {
        "id": name,
        **{part: about[part] for part in ("request", "actor", "started")},
        "state": state,
        "cancelling": running and cancelled,
        "progress": _progress(instance, folder, name, about) if running else None,
        "result": result,
        "errors": _errors(folder, name, about["request"]) if state == "failed" else [],
    }


def remove_older(home: Path, most: int = _MOST_KEPT) -> None:
    """Remove the files of all but the latest, and files of imports that ended; runs keep their journals and reports."""
    instance = Instance.at(home)
    if filesystem.is_folder(uploads := instance.data / _UPLOADS):
        with filesystem.try_lock(uploads) as free:  # none arrives
            _remove_uploads(instance, parts=free)
    folder = _folder(instance)
    kept = {*_names(folder)[:most]}
    for path in list(_parts(folder)):
        if path.name.partition(".")[0] not in kept:
            filesystem.remove(path)


def write_progress(path: Path, done: int, of: int, notes: Sequence[str] = ()) -> None:
    """Write how many sessions of all are done, and the `notes` on the data, for who waits."""
    content = {"done": done, "of": of, **({"notes": list(notes)} if notes else {})}
    filesystem.replace(path, json.dumps(content).encode())


def _kind(text: str) -> Kind:
    if text not in get_args(Kind):
        raise UsageError("It is neither a backtest nor a replay nor a download.", "Choose one of them.")
    found: Kind = text  # type: ignore[assignment]  # one of them, as was just seen
    return found


def _seed(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and int(text) <= _LARGEST_SEED):
        raise UsageError(f"Invalid seed {text!r}.", f"Give a number from 0 to {_LARGEST_SEED}, or none.")
    return int(text)


def _folder(instance: Instance) -> Path:
    return instance.data / FOLDER


def _kept(instance: Instance, name: str, suffix: str) -> Path:
    # The file of the import with this id; no symbol has an underscore, so that its name counts for none.
    return instance.data / _UPLOADS / f"{name}{_TAKEN}{suffix}"


def _remove_uploads(instance: Instance, *, parts: bool = False) -> None:
    # All but the file of the import that runs, and without `parts` one that arrives. What cannot be removed now is
    # tried again at the next start. The files are listed first: one that an import takes meanwhile is not among them.
    folder = _folder(instance)
    with suppress(AccessError):
        paths = filesystem.entries(instance.data / _UPLOADS)
        running = next((name for name in _names(folder)[:1] if _is_running(folder, name)), "")
        for path in paths:
            if not (path.name.startswith(f"{running}{_TAKEN}") or (_ARRIVING in path.name and not parts)):
                filesystem.remove(path)


def _lock(folder: Path) -> Path:
    return folder / "lock"


def _file(folder: Path, name: str, part: str) -> Path:
    return folder / f"{name}.{part}"


def _write(path: Path, content: Mapping[str, Any]) -> None:
    filesystem.write_atomic(path, json.dumps(content, sort_keys=True).encode())


def _names(folder: Path) -> list[str]:
    if not filesystem.is_folder(folder):
        return []
    found = (path.name.partition(".") for path in filesystem.entries(folder))
    return sorted((name for name, _, part in found if part == "request" and _ID.fullmatch(name)), reverse=True)


def _about(folder: Path, name: str) -> Mapping[str, Any]:
    path = _file(folder, name, "request")
    if _ID.fullmatch(name) is None or not filesystem.exists(path):
        raise UsageError(f"There is no backtest, replay, download or import {name[:40]}.", "The list of runs has them.")
    found: Mapping[str, Any] = json_document.parse_json(filesystem.read_text(path))
    return found


def _is_running(folder: Path, name: str) -> bool:
    # The lock is held by the latest one, if by any.
    return name == next(iter(_names(folder)), None) and processes.runs_exclusively(_lock(folder))


def _result(folder: Path, name: str, request: Document) -> Document | None:
    # The document that the command line printed at its end; None of one that did not come to its end, or that refused
    # its one file.
    kind = request["kind"]
    try:
        found = json_document.parse_json(filesystem.read_text(_file(folder, name, "output")))
    except (AccessError, json_document.InvalidJson):
        return None
    if not isinstance(found, dict) or _RESULTS.get(kind, "trades") not in found:
        return None
    if kind == _IMPORT:
        sentences = [_renamed(line, name, request) for line in import_sentences(found)]
        return {**found, "sentences": sentences} if found["files"] else None
    if kind == "download":
        return {**found, "sentences": list(download_sentences(found))}
    return {"simulated": False, **found, "trades": len(found["trades"])}


def _renamed(line: str, name: str, request: Document) -> str:
    # A sentence about the file of an import, by the name that the person knows.
    return line.replace(f"{name}{_TAKEN}", stem_of(Path(request["file"]))) if request["kind"] == _IMPORT else line


def _progress(instance: Instance, folder: Path, name: str, about: Mapping[str, Any]) -> Document | None:
    # What a backtest or download has written; of a replay the closed sessions of the journal that grows.
    path = _file(folder, name, "progress")
    if filesystem.exists(path):
        found: Document = json_document.parse_json(filesystem.read_text(path))
        return found
    if about["request"]["kind"] != "replay":
        return None
    began = dt.datetime.fromisoformat(about["started"]).timestamp()
    grown = next(
        (
            run_file
            for run_file in runs.run_files(instance)
            if run_file.name != runs.PAPER and run_file.changed >= began
        ),
        None,
    )
    if grown is None:
        return None
    with runs.open_run_file(grown) as journal:
        started = next(journal.events(kind=records.RUN_STARTED), None)
        notes = [] if started is None else [*started.facts(RunStarted).notes]
        done = sum(1 for _ in journal.events(kind=records.SESSION_CLOSED))
        return {"done": done, "of": None, **({"notes": notes} if notes else {})}


def _errors(folder: Path, name: str, request: Document) -> list[str]:
    # The last lines that the command line wrote: its error, and what to do; those of its log are no sentences.
    path = _file(folder, name, "errors")
    text = filesystem.read_text(path) if filesystem.exists(path) else ""
    lines = [line for line in redaction.redact(text).splitlines() if line.strip() and not line.startswith("{")]
    lines = [_renamed(line, name, request) for line in lines]
    return lines[-_ERROR_LINES:] or ["It ended without a word, as after kill -9 or a restart of the machine."]


def _parts(folder: Path) -> Iterator[Path]:
    return (path for path in filesystem.entries(folder) if _ID.fullmatch(path.name.partition(".")[0]))
