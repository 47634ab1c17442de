"""The request of a `tbot run` command line, validated before anything is opened, and the locks of its instance."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import attrs
import click

from tbot_core.actions.assembly import environment_rehearsal
from tbot_core.cli.options import resolve_home
from tbot_core.engine.rehearsal_target import RehearsalTarget, rehearsal_target
from tbot_core.errors import AccessError, UsageError
from tbot_core.instance.folder import REHEARSAL_VARIABLE, SIMULATION
from tbot_core.model.clock import SystemClock
from tbot_core.model.dates import day_range, parse_symbols

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tbot_core.instance import Instance

_DEMO_HOME: Final = Path("tbot-demo")
_DEMO_SESSIONS: Final = 3

DRY_RUN: Final = "dry-run"
"""The mode that decides on live data and sends no orders."""

MARKET_MODES: Final = frozenset({DRY_RUN, "paper", "live"})
"""The modes of the live market."""


@attrs.frozen(kw_only=True)
class RunOptions:
    """The request of the command line.

    `rate`: replay speed multiplier, None: as fast as possible. `rehearsal`: the target of a rehearsal. `trial`: the
    texts of settings that `--set` changes for a simulation, by variable.
    """

    mode: Literal["demo", "replay", "dry-run", "paper", "live"]
    home: Path
    first: dt.date | None = None
    last: dt.date | None = None
    symbols: tuple[str, ...] = ()
    rate: float | None = None
    seed: int | None = None
    sessions: int = 1
    once: bool = False
    allow_shared_key: bool = False
    rehearsal: RehearsalTarget | None = None
    trial: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def dry(self) -> bool:
        """Whether no order is sent, and the instance's own session is not touched."""
        return self.mode == DRY_RUN

    @property
    def is_apart(self) -> bool:
        """Whether it is no part of the instance's account: it has a journal of its own, and its lines are marked."""
        return self.dry or bool(self.rehearsal)

    @property
    def badge(self) -> str:
        """The mode as displays show it."""
        if self.rehearsal:
            return "REHEARSAL"
        return "DRY RUN" if self.dry else self.mode

    @property
    def title(self) -> str:
        """The badge with its meaning, for the start and the end."""
        if self.rehearsal:
            return f"{self.badge} at {self.rehearsal.url}"
        return f"{self.badge}, no order is sent" if self.dry else self.mode


def parse_run_options(  # noqa: PLR0913  -- click passes every option by its name
    *,
    demo: bool,
    replay: str | None,
    symbols: str | None,
    speed: str | None,
    seed: int | None,
    sessions: int | None,
    once: bool,
    allow_shared_key: bool = False,
    dry_run: bool = False,
    rehearsal: str | None = None,
    trial: Mapping[str, str] | None = None,
    home: Path | None,
) -> RunOptions:
    """The options as one request; raises UsageError for options that exclude each other."""
    simulated = demo or replay is not None
    faults = {
        "--demo and --replay exclude each other.": demo and replay is not None,
        "--dry-run decides on live data: --demo and --replay use other data.": dry_run and simulated,
        "--rehearsal excludes --demo, --replay and --dry-run.": rehearsal is not None and (simulated or dry_run),
        "--sessions is for --demo: a replay has its range, the live market has --once.": sessions is not None
        and not demo,
        "--once is for the live market.": once and simulated,
        "--set is for --demo and --replay: `tbot config set` changes the settings of a bot.": bool(trial)
        and not simulated,
        "--speed is for simulations: the live market has its own.": speed is not None and not simulated,
    }
    _refuse(faults)
    first, last = (None, None) if replay is None else _range(replay)
    return RunOptions(
        mode="demo" if demo else "replay" if replay is not None else "dry-run" if dry_run else "paper",
        home=(home or _DEMO_HOME) if demo else resolve_home(home),
        first=first,
        last=last,
        symbols=parse_symbols(symbols),
        rate=_rate(speed),
        seed=seed,
        sessions=sessions or (_DEMO_SESSIONS if demo else 1),
        once=once,
        allow_shared_key=allow_shared_key,
        rehearsal=None if simulated else _target(rehearsal, dry_run=dry_run),
        trial=trial or {},
    )


def _refuse(faults: Mapping[str, bool]) -> None:
    # Raise UsageError for the first fault that was made.
    for fault in (words for words, applies in faults.items() if applies):
        raise UsageError(fault, "See `tbot run --help`.")


def _target(rehearsal: str | None, *, dry_run: bool) -> RehearsalTarget | None:
    # The target of the option, else of the environment.
    target = rehearsal_target(rehearsal, SystemClock().now()) if rehearsal else environment_rehearsal()
    if target is not None and dry_run:
        message = f"--dry-run reaches the broker itself, and {REHEARSAL_VARIABLE} is set."
        raise UsageError(message, f"Unset {REHEARSAL_VARIABLE} first.")
    return target


def _rate(speed: str | None) -> float | None:
    # 0 means max.
    if speed is None:
        return None
    if speed.strip().lower() == "max":
        return 0.0
    try:
        rate = float(speed)
    except ValueError:
        rate = 0.0
    if not 1 <= rate <= 100_000:
        raise UsageError(f"Invalid speed {speed!r}.", "Give a multiplier from 1 to 100000, or max.")
    return rate


def _range(text: str) -> tuple[dt.date, dt.date]:
    first, separator, last = text.partition("..")
    return day_range(first, last if separator else first)


@contextmanager
def hold_instance_lock(home: Path, purpose: str = "") -> Iterator[None]:
    """Hold the lock of the one trading process of an instance, before any secret is opened; creates no instance.

    `purpose`: SIMULATION for a process that accepts no requests. Raises AccessError where another process holds it;
    where that is the bot of the service, the remedy is to stop the service.
    """
    from tbot_core.instance import Instance, has_settings
    from tbot_core.system import filesystem

    instance = Instance.at(home)
    with ExitStack() as held:
        if has_settings(instance):
            try:
                held.enter_context(filesystem.hold_lock(instance.lock, purpose, folder=instance.home))
            except AccessError as fault:
                if not _is_of_service(instance):
                    raise
                remedy = "It is the bot of the service: `tbot service stop` stops it, and it does not come back."
                raise AccessError(fault.message, remedy) from fault
        yield


def _is_of_service(instance: Instance) -> bool:
    # Whether the process that holds the lock of the instance is kept going.
    from tbot_core.status.service import service_document

    found = service_document(instance)
    return found is not None and found["running"] and found["process"] == instance.lock_holder


def hold_dry_run_lock(home: Path) -> AbstractContextManager[object]:
    """Hold the lock of the one dry run in the instance; another trading process is named on standard error."""
    from tbot_core.instance import Instance, has_settings
    from tbot_core.system import filesystem

    instance = Instance.at(home)
    process = instance.lock_holder
    if process is not None and filesystem.lock_purpose(instance.lock) != SIMULATION:
        words = "a dry run beside it uses the same data source, and both share its rate limits"
        click.echo(f"tbot: Process {process} trades here: {words}.", err=True)
    return filesystem.hold_lock(instance.dry_run_lock) if has_settings(instance) else nullcontext()
