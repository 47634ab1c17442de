"""The runs of an instance: the journal of paper and live trading, one per other run, and the settings of the last."""

from __future__ import annotations

import datetime as dt
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import DataError, JournalError, SettingsError, UsageError, VaultError
from tbot_core.instance.control_folder import NAME as CONTROL_FOLDER
from tbot_core.instance.control_folder import known_control_folder
from tbot_core.instance.dotenv import Assignment, ParsedDotenv
from tbot_core.instance.folder import DRY_RUN, REHEARSAL, REHEARSAL_VARIABLE, Instance
from tbot_core.instance.secrets import account_mode
from tbot_core.instance.sources import has_settings, read_settings_files
from tbot_core.journal import integrity, records
from tbot_core.journal.events.sessions import RunStarted, RunStopped, SessionOpened
from tbot_core.journal.store import Journal, read_journal
from tbot_core.marketdata import received_files
from tbot_core.model.formatting import plural
from tbot_core.system import environ, filesystem
from tbot_core.vault.categories import category_paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tbot_core.instance import Settings, SettingsFiles
    from tbot_core.instance.findings import Mode
    from tbot_core.journal.store import Event
    from tbot_core.status import Document


PAPER: Final = "paper"


@attrs.frozen(kw_only=True)
class RunFile:
    """A journal file; `name` is the id of the run, or `paper`."""

    name: str
    path: Path
    changed: float

    @property
    def dry(self) -> bool:
        """Whether it is that of a dry run, which the status of the instance ignores."""
        return self.name.startswith(DRY_RUN)

    @property
    def rehearsal(self) -> bool:
        """Whether it is that of a rehearsal."""
        return self.name.startswith(REHEARSAL)

    @property
    def apart(self) -> bool:
        """Whether it is no part of the instance's account: that of a dry run or a rehearsal."""
        return self.dry or self.rehearsal

    @property
    def simulated(self) -> bool:
        """Whether it is that of a demo or replay, which trades its sessions one after the other to the last."""
        return self.name != PAPER and not self.apart


def run_document(file: RunFile) -> Document:
    """The run for JSON: its name, when its journal changed last, and whether it is a dry run or a rehearsal."""
    changed = dt.datetime.fromtimestamp(file.changed, dt.UTC)
    return {"run": file.name, "changed": changed.isoformat(), "dry": file.dry, "rehearsal": file.rehearsal}


def run_files(instance: Instance) -> list[RunFile]:
    """Every journal of the instance, the latest first; raises JournalError if that of paper trading is missing."""
    paths = [instance.journal] if integrity.journal_exists(instance.journal) else []
    if filesystem.is_folder(instance.runs):
        paths += [path for path in filesystem.entries(instance.runs) if path.suffix == ".sqlite"]
    found = [
        RunFile(name=PAPER if path == instance.journal else path.stem, path=path, changed=_changed(path))
        for path in paths
    ]
    return sorted(found, key=lambda one: (-one.changed, one.name))


def run_file(instance: Instance, run: str | None = None) -> RunFile:
    """The journal of a run by its id, or a prefix of it; `dry-` and `rehearsal-` are the newest of their kind.

    Without a name it is the first of `shown_runs` with a session, dry runs last. Raises SettingsError without an
    instance, JournalError without a run, UsageError for an unknown or ambiguous id.
    """
    files = run_files(instance)
    if not (files or has_settings(instance)):
        raise SettingsError(f"{instance.home} is not an instance.", "Give its folder with --home.")
    if not files:
        raise JournalError(f"No run is recorded in {instance.home}.", "`tbot run --demo` records one in ./tbot-demo.")
    if run is None:
        candidates = shown_runs(instance, files) or files
        return next(filter(has_session, candidates), candidates[0])
    named = [file for file in files if file.name.startswith(run)]
    if named and run in {DRY_RUN, REHEARSAL}:
        return named[0]
    if not named and (kept := _report_without_journal(instance, run)):
        raise UsageError(
            f"{kept} is the report of a backtest, which keeps no journal.",
            "`tbot run --replay FROM..TO` of the same days makes the same decisions, and keeps one.",
        )
    if len(named) != 1:
        names = ", ".join(file.name for file in files[:8])
        raise UsageError(f"--run {run} matches {len(named)} runs.", f"Recorded: {names}.")
    return named[0]


def shown_runs(instance: Instance, files: Sequence[RunFile]) -> list[RunFile]:
    """The runs of which one is shown where none is named, the first one first; `files` are those of the instance.

    The account's while a bot trades it, then the newest of any kind but dry runs. In a rehearsal only rehearsals: the
    one that runs.
    """
    if is_rehearsing(instance):
        running = _rehearsal_of(instance) if instance.lock_holder else ""
        return [file for file in files if file.rehearsal and running in {"", file.name}]
    trades = instance.lock_holder is not None and not filesystem.lock_purpose(instance.lock)
    return sorted((file for file in files if not file.dry), key=lambda one: not (trades and one.name == PAPER))


def _report_without_journal(instance: Instance, run: str) -> str:
    # The name of the first report that begins with these characters.
    pages = filesystem.entries(instance.reports) if filesystem.is_folder(instance.reports) else ()
    return min((page.stem for page in pages if page.suffix == ".html" and page.stem.startswith(run)), default="")


def has_session(file: RunFile) -> bool:
    """Whether a session is recorded; a journal that cannot be read is not passed over in silence."""
    try:
        with open_run_file(file) as journal:
            return journal.last_event(records.SESSION_OPENED) is not None
    except JournalError:
        return True


def opened_sessions(journal: Journal) -> Mapping[str, SessionOpened]:
    """The opening event of each session of a run, by date; raises DataError without one."""
    openings = [event.facts(SessionOpened) for event in journal.events(kind=records.SESSION_OPENED)]
    if not openings:
        remedy = (
            "Try again after the opening bell. A backtest keeps no journal: `tbot run --replay` of the same days does."
        )
        raise DataError(f"The journal {journal.path} has no session yet.", remedy)
    return {opening.date.isoformat(): opening for opening in openings}


def recorded_sessions_text(days: Sequence[str], date: dt.date) -> str:
    """The recorded sessions: the range, and those next to the requested day."""
    before = [day for day in days if day < date.isoformat()]
    near = days[max(len(before) - 2, 0) : len(before) + 2]
    if len(near) == len(days):
        return f"It has {', '.join(days)}."
    whole = f"It has {plural(len(days), 'session')}, {days[0]} to {days[-1]}"
    return f"{whole}; next to that day are {', '.join(near)}."


def current_run(instance: Instance) -> RunFile | None:
    """The journal of the account that the bot trades now: of its rehearsal, else of paper and live trading.

    That of the rehearsal whose files the instance has, if any. None before the first start, and while a rehearsal has
    no journal yet.
    """
    if not instance.rehearsal and is_rehearsing(instance):
        name = _rehearsal_of(instance)
        return next((file for file in run_files(instance) if file.name == name), None)
    if not integrity.journal_exists(instance.journal):
        return None
    return RunFile(name=instance.rehearsal or PAPER, path=instance.journal, changed=_changed(instance.journal))


def with_current_run(instance: Instance) -> Instance:
    """The instance; in a rehearsal with the files of its run, which may not be there yet."""
    name = _rehearsal_of(instance)
    return attrs.evolve(instance, rehearsal=name) if name else instance


def run_time(instance: Instance, now: dt.datetime) -> dt.datetime:
    """The time of the machine's clock by that of the rehearsal whose files the instance has, if any."""
    if not instance.rehearsal:
        return now
    from tbot_core.engine.rehearsal_target import opens_of_run, rehearsal_shift  # which bring the calendar along

    return now + rehearsal_shift(opens_of_run(instance.rehearsal))


def bot_time(instance: Instance, now: dt.datetime) -> dt.datetime:
    """The time by the clock of the bot that trades now, or traded last."""
    return run_time(with_current_run(instance), now)


def received_of(instance: Instance, file: RunFile | None) -> Path:
    """The folder of the bars that a run received: beside the journal of one that is apart, else the instance's."""
    if file is not None and file.apart:
        return received_files.received_folder(file.path)
    return instance.data / received_files.FOLDER


def is_rehearsing(instance: Instance) -> bool:
    """Whether a rehearsal runs in the instance; while nothing runs, whether TBOT_REHEARSAL names one."""
    if instance.lock_holder is None:
        return bool(environ.variable(REHEARSAL_VARIABLE))
    return bool(_rehearsal_of(instance))


def _rehearsal_of(instance: Instance) -> str:
    # The id of the rehearsal that runs; while nothing runs and TBOT_REHEARSAL names one, of the newest; else "".
    if instance.lock_holder is None:
        named = environ.variable(REHEARSAL_VARIABLE)
        return next((file.name for file in run_files(instance) if file.rehearsal), "") if named else ""
    purpose = filesystem.lock_purpose(instance.lock)
    return purpose if purpose.startswith(REHEARSAL) else ""


@contextmanager
def open_run_file(file: RunFile) -> Iterator[Journal]:
    """The journal, read-only. That of a simulation can be made again, so a damaged one need not be restored."""
    try:
        with closing(read_journal(file.path)) as journal:
            yield journal
    except JournalError as fault:
        if file.name == PAPER:
            raise
        raise JournalError(fault.message, "Delete it and start that run again.") from fault


def unfinished_sentence(file: RunFile) -> str:
    """What needs attention of a run that has not ended: it was interrupted, or stopped with something left open."""
    with open_run_file(file) as journal:
        opened, closed = (journal.last_event(kind) for kind in (records.SESSION_OPENED, records.SESSION_CLOSED))
        started, ended = (journal.last_event(kind) for kind in (records.RUN_STARTED, records.RUN_FINISHED))
        stop = _last_stop(journal)
    where = ""
    if not file.simulated:
        if opened is None or (closed is not None and closed.seq > opened.seq):
            return ""
        where = f" in the session of {opened.facts(SessionOpened).date}"
    elif started is None or ended is not None:
        return ""
    if file.name == PAPER or started is None:
        what, resumes = "Paper trading", "`tbot run` resumes it."
    else:
        what, resumes = f"The {started.facts(RunStarted).mode} run {file.name}", "the same command resumes it."
    if stop is None:
        return f"{what} was interrupted{where}; {resumes}"
    stopped = stop.facts(RunStopped)
    left, unread = stopped.open, stopped.unconfirmed.removesuffix(".")
    open_ = f"left open: {', '.join(left)}" if left else ""
    rest = ", ".join(filter(None, (open_, unread and f"the account could not be read: {unread}")))
    return f"{what} was stopped{where}, {rest}; {resumes}" if rest else ""


def _last_stop(journal: Journal) -> Event | None:
    from tbot_core.status.phases import last_stop  # which knows windows and calendars, and a list of runs needs none

    stop = journal.last_event(records.STOPPED)
    return None if stop is None else last_stop([stop, *journal.events(stop.seq)])


def _changed(path: Path) -> float:
    # The latest changes may be in the write-ahead log beside the file; who only reads leaves an empty one.
    log = filesystem.revision(path.with_name(f"{path.name}-wal"))
    return max(filesystem.modified(path), log[0] if log is not None and log[1] else 0.0)


def settings_of_last_run(instance: Instance) -> tuple[str, ParsedDotenv]:
    """The settings of the last paper run, else of the newest other run, and its name; the defaults without a run."""
    for file in sorted(run_files(instance), key=lambda it: (it.name != PAPER, it.apart)):
        with open_run_file(file) as journal:
            started = journal.last_event(records.RUN_STARTED)
        if started is not None:
            run = started.facts(RunStarted)
            since = f"the {run.mode} run of {started.applied:%Y-%m-%d %H:%M} UTC"
            return since, settings_of_run(run, since)
    return "the defaults (nothing has run yet)", ParsedDotenv()


def settings_of_run(run: RunStarted, name: str) -> ParsedDotenv:
    """The settings of a run, also those of `--set`, as those of a file `name`."""
    entries = (Assignment(key=key, value=text, file=name, line=0) for key, text in run.settings.items())
    return ParsedDotenv(entries=tuple(entries))


def settings_or_last_run(home: Path | None, *, mode: Mode) -> tuple[Settings, str]:
    """The current settings and ""; if they are invalid or cannot be read, those of the last run, and the reason.

    Raises the fault if nothing has run.
    """
    from tbot_core.instance import load_settings  # which brings every setting along: a list of runs needs none

    try:
        return load_settings(home, mode=mode), ""
    except (SettingsError, VaultError) as fault:
        since, parsed = settings_of_last_run(Instance.at(home))
        if not parsed.entries:
            raise
        try:
            settings = load_settings(
                home, mode=mode, sources=with_former(read_settings_files(Instance.at(home)), parsed)
            )
        except SettingsError:
            raise fault from None
        faults = "; ".join(line.rstrip(".") for line in fault.message.splitlines())
        return settings, f"The settings cannot be used: {faults}. Shown are the settings of {since}."


class SettingsReader:
    """Reads the settings of one instance again and again: opens their files when one of them has changed.

    Each opening is a line of the access log, which a page that is open all day would fill.
    """

    def __init__(self, home: Path | None) -> None:
        self._home = home
        self._known: tuple[tuple[Mode, object], tuple[Settings, str]] | None = None
        self._placed: tuple[object, Instance] | None = None
        self._account: tuple[object, str] | None = None
        self._bot_path = ".env_bot"

    def read(self, mode: Mode) -> tuple[Settings, str]:
        """What `settings_or_last_run` returns, and raises."""
        key = (mode, self._revisions())
        if self._known is None or self._known[0] != key:
            found = settings_or_last_run(self._home, mode=mode)
            self._bot_path = found[0].deployment.env_bot_path
            self._known = ((mode, self._revisions()), found)
        return self._known[1]

    def account_mode(self) -> str:
        """The mode of the account that a start with the settings read last would trade: live or paper.

        Raises VaultError for credentials that cannot be opened; a start refuses them too.
        """
        if self._known is None:
            raise LookupError(self._home)
        (_, files), (settings, _) = self._known
        place = category_paths("broker", settings.instance, settings.deployment)
        key = (files, filesystem.revision(place.file), filesystem.revision(place.key))
        if self._account is None or self._account[0] != key:
            self._account = (key, account_mode(settings))
        return self._account[1]

    def instance(self) -> Instance:
        """The instance with its control folder, as `known_control_folder` returns it."""
        plain = Instance.at(self._home)
        record = filesystem.revision(plain.data / CONTROL_FOLDER)
        key = (self._revisions()[:2], record, plain.lock_holder)
        if self._placed is None or self._placed[0] != key:
            self._placed = (key, known_control_folder(plain))
        return self._placed[1]

    def _revisions(self) -> tuple[object, ...]:
        instance = Instance.at(self._home)
        names = (".env", ".env.enc", self._bot_path, f"{self._bot_path}.enc")
        return tuple(filesystem.revision(instance.path(name)) for name in names)


def with_former(sources: SettingsFiles, parsed: ParsedDotenv) -> SettingsFiles:
    """The files with the trading configuration of a run; a global configuration that cannot be read counts as empty."""
    env = sources.env if sources.env.fault is None else attrs.evolve(sources.env, parsed=ParsedDotenv(), fault=None)
    return attrs.evolve(sources, env=env, bot=attrs.evolve(sources.bot, plain=True, parsed=parsed, fault=None))
