"""`tbot run`: trades, with a live view on a terminal and plain lines elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import attrs
import click

from tbot_core.cli.options import BoundedInt, emit, home_option, json_option, shared_key_option, use_home, use_settings
from tbot_core.cli.run_options import (
    MARKET_MODES,
    SIMULATION,
    RunOptions,
    hold_dry_run_lock,
    hold_instance_lock,
    parse_run_options,
)
from tbot_core.cli.settings_watch import SettingsWatcher

if TYPE_CHECKING:
    import datetime as dt

    from tbot_core.contracts import FeedRequest
    from tbot_core.engine.bootstrap import Assembly
    from tbot_core.engine.run_plan import RunOutcome
    from tbot_core.instance import SettingsFiles

WATCHABLE_RATE: Final = 5200.0
"""Replay speed multiplier at which a session of the demo takes four and a half seconds."""

STOPPED: Final = 130
SIMULATED: Final = "PAPER"
_DEMO_SETTINGS: Final = Path(__file__).parents[2] / "instance" / "demo.env_bot"


@click.command("run")
@click.option("--demo", is_flag=True, help="Trade simulated sessions, in an instance of its own.")
@click.option("--replay", metavar="FROM..TO", help="Replay a range of stored sessions, as in 2018-02-16..2018-03-29.")
@click.option("--symbols", metavar="A,B", help="Only these symbols.")
@click.option("--speed", metavar="max|60", help="Replay speed multiplier (1 to 100000), or max.")
@click.option("--seed", type=BoundedInt(0, 2**32 - 1), metavar="N", help="Seed of all random numbers. Default: SEED.")
@click.option("--sessions", type=BoundedInt(1, 1000), metavar="N", help="Number of demo sessions. Default: 3.")
@click.option("--once", is_flag=True, help="End after one session.")
@click.option("--dry-run", is_flag=True, help="Decide on live data with the current settings, and send no orders.")
@shared_key_option
@home_option
@json_option
def command(*, as_json: bool, **options: object) -> int:
    """Trade simulated sessions (--demo), stored sessions (--replay), or the live market, on paper or live.

    A dry run (--dry-run) may run beside the trading bot of the same instance: its fills are simulated, it has its own
    cash, and it writes a journal of its own under data/runs.

    A fill has the time at which its bar began, everything else the time of the decision. Ctrl-C shuts down cleanly; the
    same command resumes.
    """
    wish = parse_run_options(**options)  # type: ignore[arg-type]  # click gives what the options say
    use_home(wish.home)
    if wish.mode == "demo":
        create_demo_instance(wish.home)
    with (
        hold_dry_run_lock(wish.home)
        if wish.dry
        else hold_instance_lock(wish.home, "" if wish.mode in MARKET_MODES else SIMULATION)
    ):
        editions = SettingsWatcher(*read_sources(wish), read_sources)
        while (outcome := trade(editions.wish, as_json=as_json, editions=editions)).renewed:
            editions.renew()
        wish = editions.wish
    if as_json and (wish.mode in MARKET_MODES or not outcome.stopped):
        emit(outcome_document(wish, outcome), as_json=True)
    return exit_code(wish, outcome)


def outcome_document(wish: RunOptions, outcome: RunOutcome) -> dict[str, object]:
    """The result of a run as a document; at a broker also with its open positions."""
    if wish.mode not in MARKET_MODES:
        return outcome.summary.document()
    left = {"open": list(outcome.open), "unprotected": list(outcome.unprotected), "stuck": list(outcome.stuck)}
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


def resolve_mode(wish: RunOptions, found: SettingsFiles) -> RunOptions:
    """The request in the mode of its account: `mode=live` in the broker's section of the secrets makes it live.

    A simulated broker has no section, so no secret is opened for it. Raises SettingsError for invalid settings.
    """
    if wish.mode != "paper" or _simulated(found):
        return wish
    from tbot_core.instance import load_settings
    from tbot_core.instance.secrets import account_mode

    return (
        attrs.evolve(wish, mode="live")
        if account_mode(load_settings(wish.home, mode="replay", sources=found)) == "live"
        else wish
    )


def read_sources(wish: RunOptions) -> tuple[RunOptions, SettingsFiles]:
    """The settings files, read once for the whole run, of a checked instance; a demo instance is not checked.

    The request is returned in the mode of its account. Raises SettingsError or AccessError for an unfit instance.
    """
    from tbot_core.instance import Instance, read_settings_files

    instance = Instance.at(wish.home)
    use_settings({})  # whatever fails from here on opens nothing once more
    found = read_settings_files(instance)
    use_settings(found.known_texts())
    wish = resolve_mode(wish, found)
    strict = wish.mode == "live" or uses_live_credentials(wish, found)
    if strict:
        found = read_settings_files(instance, live=True)  # which refuses loose modes
    if wish.mode != "demo" and found.bot.exists:  # of a folder without an instance loading says what is wrong
        from tbot_core.cli.commands.check import assert_start

        assert_start(instance, found, "live" if strict else wish.mode, allow_shared_key=wish.allow_shared_key)
    return wish, found


def uses_live_credentials(wish: RunOptions, found: SettingsFiles) -> bool:
    """Whether a dry run uses the credentials of a live account for its data: then they are guarded as in a live run.

    Raises PluginError if a plugin is enabled that live trading would not import.
    """
    from tbot_core.engine.bootstrap import data_source_name
    from tbot_core.errors import VaultError
    from tbot_core.instance import Instance, load_settings, plugins_enabled
    from tbot_core.instance.secrets import account_mode
    from tbot_core.plugins import discovery, lock
    from tbot_core.vault.error_codes import VaultErrorCode

    texts = found.known_texts()
    source = data_source_name(texts)
    if not wish.dry or source == SIMULATED.lower():
        return False
    try:
        if account_mode(load_settings(wish.home, mode="replay", sources=found), source) != "live":
            return False
    except VaultError as fault:
        if fault.code != VaultErrorCode.CONTENT_ABSENT.text:
            raise
        return False  # a source without credentials has no account
    lock.require_locked(
        Instance.at(wish.home).home, discovery.mark_enabled(discovery.installed_plugins(), plugins_enabled(texts))
    )
    return True


def trade(wish: RunOptions, *, as_json: bool, editions: SettingsWatcher | None = None) -> RunOutcome:
    """Run the request with these settings, and show it."""
    import asyncio

    from tbot_core.alerts.service import alerts_beside
    from tbot_core.cli import run_display
    from tbot_core.engine.bootstrap import assemble
    from tbot_core.engine.disk_guard import DiskGuard
    from tbot_core.engine.run import run
    from tbot_core.engine.run_plan import RunPlan
    from tbot_core.engine.settings_reload import SettingsReloader
    from tbot_core.model.clock import SystemClock

    clock = SystemClock()
    overrides = {} if wish.seed is None else {"SEED": str(wish.seed)}
    found = None if editions is None else editions.found
    if found is not None and wish.mode in MARKET_MODES and not wish.dry:
        overrides = settings_of_open_session(wish, found, clock.now()) | overrides
    assembly = assemble(wish.home, wish.mode, clock, overrides, found)
    shown = run_display.make_display(wish, assembly, clock, as_json=as_json)
    renewal = SettingsReloader()
    if editions is not None and wish.mode in MARKET_MODES:
        editions.begin(assembly.settings, assembly.check_tables)
        renewal = SettingsReloader(editions.poll)
    plan = RunPlan(
        assembly=assembly,
        request=feed_request(wish, assembly),
        wall=clock,
        pace=_pace(wish, watched=shown.watched),
        once=wish.once,
        disk_guard=DiskGuard.of(assembly.settings.instance.data)
        if wish.mode in MARKET_MODES and not wish.dry
        else DiskGuard(),
        settings_reload=renewal,
    )
    with shown, alerts_beside(assembly, clock, restart_command(wish)) as attended:
        outcome = asyncio.run(run_display.run_until_stopped(attended(run(plan, shown.watcher)), plan.stop, plan.kill))
    if not outcome.renewed:
        shown.end(outcome)
    return outcome


def settings_of_open_session(wish: RunOptions, found: SettingsFiles, now: dt.datetime) -> dict[str, str]:
    """The settings of a continued session, where the files have changed: a change takes effect from the next one."""
    from tbot_core.engine.settings_reload import open_session_settings
    from tbot_core.errors import TbotError
    from tbot_core.instance import Instance, load_settings

    texts = open_session_settings(Instance.at(wish.home).journal, now, simulated=_simulated(found))
    try:
        fresh = load_settings(wish.home, mode=wish.mode, sources=found).values if texts else {}
    except TbotError:
        return texts
    return {name: text for name, text in texts.items() if name not in fresh or fresh[name].text != text}


def _simulated(found: SettingsFiles) -> bool:
    return found.known_texts().get("BROKER_NAME", SIMULATED).strip().upper() in {"", SIMULATED}


def restart_command(wish: RunOptions) -> tuple[str, ...]:
    """The command that starts a paper run again, without a view."""
    options = {"--once": wish.once, "--allow-shared-key": wish.allow_shared_key}
    values = {"--home": wish.home.absolute(), "--symbols": ",".join(wish.symbols) or None, "--seed": wish.seed}
    given = [f"{name}={value}" for name, value in values.items() if value is not None]
    return (sys.executable, "-P", "-m", "tbot_core", "run", *given, *(name for name, on in options.items() if on))


def feed_request(wish: RunOptions, assembly: Assembly) -> FeedRequest:
    """The feed request of the run."""
    from tbot_core.contracts import FeedRequest as Request

    settings = assembly.settings
    kinds: dict[str, Literal["demo", "replay", "live"]] = {"demo": "demo", "replay": "replay"}
    return Request(
        kind=kinds.get(wish.mode, "live"),
        first=wish.first,
        last=wish.last,
        symbols=wish.symbols or settings.trading.universe,
        sessions=wish.sessions,
        seed=settings.simulation.seed,
        bars=settings.instance.bars,
        calendar=assembly.calendar,
        typical_volume=assembly.typical_volume,
    )


def exit_code(wish: RunOptions, outcome: RunOutcome) -> int:
    """The exit code: 1 where the live market may have left something open, 130 for a stopped simulation, else 0."""
    if wish.mode in MARKET_MODES:
        return 1 if outcome.open or outcome.unconfirmed else 0
    return STOPPED if outcome.stopped else 0


def _pace(wish: RunOptions, *, watched: bool) -> float | None:
    # A demo that somebody watches is slowed down, unless told otherwise.
    if wish.rate == 0.0:
        return None
    return WATCHABLE_RATE if wish.rate is None and wish.mode == "demo" and watched else wish.rate
