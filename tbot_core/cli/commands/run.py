"""`tbot run`: trades, with a live view on a terminal and plain lines elsewhere."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import attrs
import click

from tbot_core.actions.assembly import SIMULATED, uses_live_credentials
from tbot_core.cli.options import (
    BoundedInt,
    emit,
    home_option,
    json_option,
    print_warning,
    shared_key_option,
    trial_option,
    use_home,
    use_settings,
)
from tbot_core.cli.run_options import (
    MARKET_MODES,
    RunOptions,
    hold_dry_run_lock,
    hold_instance_lock,
    parse_run_options,
)
from tbot_core.instance.folder import SIMULATION

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from tbot_core.cli.settings_watch import SettingsWatcher
    from tbot_core.contracts import FeedRequest
    from tbot_core.engine.assembly import Assembly
    from tbot_core.engine.run_plan import RunOutcome
    from tbot_core.engine.settings_reload import SettingsReloader
    from tbot_core.instance import Mode, SettingsFiles
    from tbot_core.model.clock import Clock

_WATCHABLE_RATE: Final = 5200.0
"""Replay speed multiplier at which a session of the demo takes four and a half seconds."""

STOPPED: Final = 130
_DEMO_SETTINGS: Final = Path(__file__).parents[2] / "instance" / "demo.env_bot"


@click.command("run")
@click.option("--demo", is_flag=True, help="Trade simulated sessions, in an instance of its own.")
@click.option(
    "--replay",
    metavar="DATE|FROM..TO",
    help="Replay a stored session, as in 2018-02-16, or a range of them, as in 2018-02-16..2018-03-29.",
)
@click.option("--symbols", metavar="A,B", help="Only these symbols.")
@click.option("--speed", metavar="max|60", help="Replay speed multiplier (1 to 100000), or max.")
@click.option("--seed", type=BoundedInt(0, 2**32 - 1), metavar="N", help="Seed of all random numbers. Default: SEED.")
@click.option("--sessions", type=BoundedInt(1, 1000), metavar="N", help="Number of demo sessions. Default: 3.")
@click.option("--once", is_flag=True, help="End after one session.")
@click.option("--dry-run", is_flag=True, help="Decide on live data with the current settings, and send no orders.")
@click.option(
    "--rehearsal",
    metavar="URL",
    help="Trade now, at a server on this machine that plays the venue; the clock is shifted to the next session."
    " Default: $TBOT_REHEARSAL.",
)
@click.option(
    "--web",
    is_flag=True,
    help="Serve the page too, as a process of its own; after the bot's end it stays until Ctrl-C.",
)
@trial_option
@shared_key_option
@home_option
@json_option
def command(*, as_json: bool, web: bool, **given: object) -> int:
    """Trade simulated sessions (--demo), stored sessions (--replay), or the live market, on paper or live.

    A dry run (--dry-run) may run beside the trading bot of the same instance: its fills are simulated, it has its own
    cash, and it writes a journal of its own under data/runs.

    A rehearsal (--rehearsal URL) takes the same path as paper trading, with a shifted clock, by which the next session
    opens in two minutes. Plugins are at the servers that URL names; the journal is one of its own, under data/runs.
    `tbot rehearse --broker NAME --serve` plays the venues of plugins, and prints what to run.

    A fill has the time at which its bar began, everything else the time of the decision. Ctrl-C shuts down cleanly; the
    same command resumes.
    """
    from tbot_core.cli.page_beside import require_made, run_beside_page

    options = parse_run_options(**given)  # type: ignore[arg-type]  # the types are those of the click options
    use_home(options.home)
    if web:
        require_made(options.home)
    if options.mode == "demo":
        create_demo_instance(options.home)
    lock = hold_dry_run_lock(options.home) if options.dry else hold_instance_lock(options.home, _purpose(options))
    if web:
        return run_beside_page(options.home, lock, lambda: _run(options, as_json=as_json))
    with lock:
        return _run(options, as_json=as_json)[0]


def _run(options: RunOptions, *, as_json: bool) -> tuple[int, bool]:
    # The exit code of the run, and whether a signal ended it.
    from tbot_core.cli.settings_watch import SettingsWatcher
    from tbot_core.system import forks

    watcher = SettingsWatcher(*_read_sources(options), _read_sources)
    with forks.without_forks(), _marked_calls(options):
        while (outcome := trade(watcher.options, as_json=as_json, watcher=watcher)).renewed:
            watcher.renew()
    options = watcher.options
    if as_json and (options.mode in MARKET_MODES or not outcome.stopped):
        emit(outcome_document(options, outcome), as_json=True)
    if outcome.summary.unwritten is not None:
        raise outcome.summary.unwritten
    return exit_code(options, outcome), outcome.interrupted


@contextmanager
def _marked_calls(options: RunOptions) -> Iterator[None]:
    # Mark the calls of plugins for the next start, and say in which one the last run ended. A dry run has no page.
    from tbot_core.instance import Instance
    from tbot_core.model.clock import SystemClock
    from tbot_core.plugins import hung_plugins

    if options.dry:
        yield
        return
    data = Instance.at(options.home).data
    if ended := hung_plugins.note_ended_call(data, SystemClock().now()):
        print_warning(ended.sentence)
    with hung_plugins.marked_calls(data):
        yield


def _purpose(options: RunOptions) -> str:
    # The purpose of the process, as its lock names it.
    if options.rehearsal:
        return options.rehearsal.run
    return "" if options.mode in MARKET_MODES else SIMULATION


def outcome_document(options: RunOptions, outcome: RunOutcome) -> dict[str, object]:
    """The result of a run as a document; in the live market also with its open positions."""
    if options.mode not in MARKET_MODES:
        return outcome.summary.document()
    left = {name: list(getattr(outcome, name)) for name in ("open", "unprotected", "cancelling", "stuck")}
    return outcome.summary.document() | left | {"unconfirmed": outcome.unconfirmed}


def create_demo_instance(home: Path) -> None:
    """Create the demo instance if there is none; existing settings are kept."""
    from tbot_core.instance import Instance, is_sealed
    from tbot_core.system import filesystem

    instance = Instance.at(home)
    if filesystem.exists(instance.env) or filesystem.exists(instance.path(".env_bot")) or is_sealed(instance):
        return
    filesystem.make_folder(instance.home)
    if not filesystem.exists(instance.path(".gitignore")):
        filesystem.write_atomic(instance.path(".gitignore"), b"*\n")
    filesystem.write_atomic(instance.path(".env_bot"), filesystem.read_bytes(_DEMO_SETTINGS))


def resolve_mode(options: RunOptions, found: SettingsFiles) -> RunOptions:
    """The request in the mode of its account: `mode=live` in the broker's section of the secrets makes it live.

    Without it the request is one on paper, also where the run before it was live. A simulated broker has no section, so
    no secret is opened for it. Raises SettingsError for invalid settings.
    """
    if options.mode not in {"paper", "live"}:
        return options
    if _simulated(found):
        return attrs.evolve(options, mode="paper")
    from tbot_core.instance import load_settings
    from tbot_core.instance.secrets import account_mode

    live = account_mode(load_settings(options.home, mode="replay", sources=found)) == "live"
    return attrs.evolve(options, mode="live" if live else "paper")


def _read_sources(options: RunOptions) -> tuple[RunOptions, SettingsFiles]:
    # The settings files, read once for the whole run, of a checked instance; a demo instance is not checked.
    # The request is returned in the mode of its account. Raises SettingsError or AccessError for an unfit instance.
    from tbot_core.instance import Instance, read_settings_files
    from tbot_core.instance.loading import with_trial

    instance = Instance.at(options.home)
    use_settings({})  # a failure from here on must not open the files again
    files = with_trial(read_settings_files(instance), options.trial)
    use_settings(files.known_texts())
    options = resolve_mode(options, files)
    strict = options.mode == "live" or (options.dry and uses_live_credentials(options.home, files))
    if strict:
        files = read_settings_files(instance, live=True)  # refuses file modes that are too open
    if options.mode != "demo" and files.bot.exists:  # without an instance, loading the settings raises the error
        from tbot_core.actions.checks import assert_start

        mode: Mode = "live" if strict else options.mode
        assert_start(instance, files, mode, allow_shared_key=options.allow_shared_key, warn=print_warning)
    return options, files


def trade(options: RunOptions, *, as_json: bool, watcher: SettingsWatcher | None = None) -> RunOutcome:
    """Run the request with these settings, and show it."""
    import asyncio

    from tbot_core.alerts.service import alerts_beside
    from tbot_core.backtest.shadow_run import session_drift
    from tbot_core.cli import run_display
    from tbot_core.engine.disk_guard import DiskGuard
    from tbot_core.engine.journal_guard import JournalGuard, with_chain_heads
    from tbot_core.engine.run import run
    from tbot_core.engine.run_plan import RunPlan
    from tbot_core.extensions.service import with_extensions

    sources = None if watcher is None else watcher.sources
    clock = _clock(options)
    sends_orders = options.mode in MARKET_MODES and not options.dry
    assembly = _assembled(options, clock, sources, sends_orders=sends_orders)
    shown = run_display.make_display(options, assembly, clock, as_json=as_json)
    recorded = assembly.settings.instance if sends_orders and not options.rehearsal else None
    plan = RunPlan(
        assembly=assembly,
        request=feed_request(options, assembly),
        wall=clock,
        pace=_pace(options, watched=shown.watched),
        once=options.once,
        rehearsal=options.rehearsal.run if options.rehearsal else "",
        drift=session_drift,
        disk_guard=DiskGuard.of(assembly.settings.instance.data) if sends_orders else DiskGuard(),
        journal_guard=JournalGuard(instance=recorded),
        settings_reload=_settings_reloader(options, assembly, watcher),
    )
    alerts = alerts_beside(assembly, clock, restart_command(options))
    with shown, alerts as with_alerts:
        work = with_chain_heads(
            with_alerts(with_extensions(run(plan, shown.watcher), plan)),
            assembly.settings.instance,
            plan.journal_guard,
        )
        closed = assembly.closing(run_display.run_until_stopped(work, plan.stop, plan.kill))
        outcome = attrs.evolve(asyncio.run(closed), interrupted=plan.stop.is_set())
    if not outcome.renewed:
        shown.end(outcome)
    return outcome


def _settings_reloader(options: RunOptions, assembly: Assembly, watcher: SettingsWatcher | None) -> SettingsReloader:
    # What applies changed settings between two sessions of the market; nothing in a simulation.
    from tbot_core.engine.settings_reload import SettingsReloader

    if watcher is None or options.mode not in MARKET_MODES:
        return SettingsReloader()
    watcher.begin(assembly.settings, assembly.check_tables)
    return SettingsReloader(watcher.poll)


def _clock(options: RunOptions) -> Clock:
    # The machine's clock; that of a rehearsal is shifted.
    from tbot_core.engine.rehearsal_run import rehearsal_clock
    from tbot_core.model.clock import SystemClock

    return rehearsal_clock(options.rehearsal.opens) if options.rehearsal else SystemClock()


def _assembled(options: RunOptions, clock: Clock, found: SettingsFiles | None, *, sends_orders: bool) -> Assembly:
    # The parts of the run; one that sends orders has the settings of its open session, and all secrets it needs. The
    # venue of a rehearsal must answer.
    from tbot_core.engine.bootstrap import assemble

    overrides = {} if options.seed is None else {"SEED": str(options.seed)}
    if found is not None and sends_orders and not options.rehearsal:
        overrides = settings_of_open_session(options, found, clock.now()) | overrides
    if options.rehearsal:
        import asyncio

        from tbot_core.cli.options import print_warning
        from tbot_core.engine.rehearsal_run import assemble_rehearsal, assert_venue_answers, unreached

        assembly = assemble_rehearsal(options.rehearsal, options.home, options.mode, overrides, found)
        asyncio.run(assert_venue_answers(assembly.settings.instance, options.rehearsal))
        for words in unreached(assembly.loaded, assembly.settings):
            print_warning(words)
    else:
        assembly = assemble(options.home, options.mode, clock, overrides, found)
    if sends_orders:
        assembly.check_secrets()
    return assembly


def settings_of_open_session(options: RunOptions, found: SettingsFiles, now: dt.datetime) -> dict[str, str]:
    """The settings of a continued session that the files have changed since: a change applies from the next session."""
    from tbot_core.engine.settings_reload import open_session_settings
    from tbot_core.errors import TbotError
    from tbot_core.instance import Instance, load_settings

    texts = open_session_settings(Instance.at(options.home).journal, now)
    try:
        fresh = load_settings(options.home, mode=options.mode, sources=found).values if texts else {}
    except TbotError:
        return texts
    return {name: text for name, text in texts.items() if name not in fresh or fresh[name].text != text}


def _simulated(found: SettingsFiles) -> bool:
    return found.known_texts().get("BROKER_NAME", SIMULATED).strip().upper() in {"", SIMULATED}


def restart_command(options: RunOptions) -> tuple[str, ...]:
    """The command that starts a paper run again, without a view."""
    flags = {"--once": options.once, "--allow-shared-key": options.allow_shared_key}
    values = {"--home": options.home.absolute(), "--symbols": ",".join(options.symbols) or None, "--seed": options.seed}
    given = [f"{name}={value}" for name, value in values.items() if value is not None]
    return (sys.executable, "-P", "-m", "tbot_core", "run", *given, *(name for name, on in flags.items() if on))


def feed_request(options: RunOptions, assembly: Assembly) -> FeedRequest:
    """The feed request of the run."""
    from tbot_core.contracts import FeedRequest as Request

    settings = assembly.settings
    kinds: dict[str, Literal["demo", "replay", "live"]] = {"demo": "demo", "replay": "replay"}
    return Request(
        kind=kinds.get(options.mode, "live"),
        first=options.first,
        last=options.last,
        symbols=options.symbols or settings.trading.universe,
        sessions=options.sessions,
        seed=settings.simulation.seed,
        bars=settings.instance.bars,
        calendar=assembly.calendar,
        extra_facts=assembly.extra_facts,
    )


def exit_code(options: RunOptions, outcome: RunOutcome) -> int:
    """The exit code: 1 where the live market may have left something open, 130 for a stopped simulation, else 0."""
    if options.mode in MARKET_MODES:
        return 1 if outcome.open or outcome.unconfirmed else 0
    return STOPPED if outcome.stopped else 0


def _pace(options: RunOptions, *, watched: bool) -> float | None:
    # A demo on a terminal is slowed down, unless --speed is given.
    if options.rate == 0.0:
        return None
    return _WATCHABLE_RATE if options.rate is None and options.mode == "demo" and watched else options.rate
