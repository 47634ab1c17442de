"""`tbot run`: the main job, with a live view on a terminal and plain lines elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import attrs
import click

from tbot_core.cli.instance_lock import alone, dried
from tbot_core.cli.options import Whole, emit, home_option, json_option, shared_key_option, use_home, use_settings
from tbot_core.cli.run_options import MARKET, SIMULATION, Wish, wished
from tbot_core.cli.settings_watch import Editions

if TYPE_CHECKING:
    import datetime as dt

    from tbot_core.contracts import FeedRequest
    from tbot_core.engine.bootstrap import Assembly
    from tbot_core.engine.run_plan import Outcome
    from tbot_core.instance import Sources

WATCHABLE_RATE: Final = 5200.0
"""Exchange seconds a second at which a session of the demo passes in four and a half seconds."""

STOPPED: Final = 130
SIMULATED: Final = "PAPER"
_DEMO_SETTINGS: Final = Path(__file__).parents[2] / "instance" / "demo.env_bot"


@click.command("run")
@click.option("--demo", is_flag=True, help="Trade simulated sessions, in an instance of its own.")
@click.option(
    "--replay", metavar="FROM..TO", help="Trade the stored sessions of a range, as in 2018-02-16..2018-03-29."
)
@click.option("--symbols", metavar="A,B", help="Only these symbols.")
@click.option("--speed", metavar="max|60", help="Exchange seconds a second (1 to 100000), or max: as fast as it goes.")
@click.option("--seed", type=Whole(0, 2**32 - 1), metavar="N", help="Seed of everything random. Default: SEED.")
@click.option("--sessions", type=Whole(1, 1000), metavar="N", help="Sessions of the demo. Default: 3.")
@click.option("--once", is_flag=True, help="End after one session.")
@click.option(
    "--dry-run", is_flag=True, help="Decide on live data with the settings as they are, and send nothing to any broker."
)
@shared_key_option
@home_option
@json_option
def command(*, as_json: bool, **options: object) -> int:
    """Trade: simulated sessions (--demo), stored days (--replay), or the running market, on paper or live.

    A dry run (--dry-run) may go on beside the bot that trades in the same instance: its fills are simulated, it has its
    own cash, and it writes into a file of its own under data/runs.

    A fill bears the time at which its bar began, all else the moment at which it was decided. Ctrl-C stops in order;
    the same command resumes.
    """
    wish = wished(**options)  # type: ignore[arg-type]  # click gives what the options say
    use_home(wish.home)
    if wish.mode == "demo":
        furnish(wish.home)
    with dried(wish.home) if wish.dry else alone(wish.home, "" if wish.mode in MARKET else SIMULATION):
        editions = Editions(*sources(wish), sources)
        while (outcome := trade(editions.wish, as_json=as_json, editions=editions)).renewed:
            editions.renew()
        wish = editions.wish
    if as_json and (wish.mode in MARKET or not outcome.stopped):
        emit(told(wish, outcome), as_json=True)
    return code(wish, outcome)


def told(wish: Wish, outcome: Outcome) -> dict[str, object]:
    """What a run came to, for machines; of one that trades at a broker also what it left open there."""
    if wish.mode not in MARKET:
        return outcome.summary.document()
    left = {"open": list(outcome.open), "unprotected": list(outcome.bare), "stuck": list(outcome.stuck)}
    return outcome.summary.document() | left | {"unconfirmed": outcome.unconfirmed}


def furnish(home: Path) -> None:
    """Make the demo's instance where there is none; settings that stand there are left as they are."""
    from tbot_core.instance import Instance, is_sealed
    from tbot_core.system import filesystem

    instance = Instance.at(home)
    if filesystem.exists(instance.env) or filesystem.exists(instance.path(".env_bot")) or is_sealed(instance):
        return
    filesystem.make_folder(instance.home)
    if not filesystem.exists(instance.path(".gitignore")):
        filesystem.write_atomic(instance.path(".gitignore"), b"*\n")
    filesystem.write_atomic(instance.path(".env_bot"), filesystem.read_bytes(_DEMO_SETTINGS))


def settled(wish: Wish, found: Sources) -> Wish:
    """The wish in the mode of its account: `mode=live` in the broker's section of the secrets makes it a live one.

    A broker that is simulated here has none, so nothing is opened for it. Raises SettingsError for unfit settings.
    """
    if wish.mode != "paper" or _simulated(found):
        return wish
    from tbot_core.instance import load
    from tbot_core.instance.secrets import mode_of

    return attrs.evolve(wish, mode="live") if mode_of(load(wish.home, mode="replay", sources=found)) == "live" else wish


def sources(wish: Wish) -> tuple[Wish, Sources]:
    """The settings files, read once for the whole run, of an instance that is fit for it; a demo's own is not checked.

    The wish comes back in the mode of its account. Raises SettingsError or AccessError where the instance is not fit.
    """
    from tbot_core.instance import Instance, read

    instance = Instance.at(wish.home)
    use_settings({})  # whatever fails from here on opens nothing once more
    found = read(instance)
    use_settings(found.known_texts())
    wish = settled(wish, found)
    strict = wish.mode == "live" or opens_live(wish, found)
    if strict:
        found = read(instance, live=True)  # which refuses loose modes
    if wish.mode != "demo" and found.bot.stands:  # of a folder without an instance loading says what is wrong
        from tbot_core.cli.actions.check import assert_start

        assert_start(instance, found, "live" if strict else wish.mode, allow_shared_key=wish.allow_shared_key)
    return wish, found


def opens_live(wish: Wish, found: Sources) -> bool:
    """Whether a dry run hears its bars with the credentials of a live account: they are kept as for a live run.

    Raises PluginError where a plugin is enabled that live trading would not import.
    """
    from tbot_core.engine.bootstrap import source_named
    from tbot_core.errors import VaultError
    from tbot_core.instance import Instance, enabled, load
    from tbot_core.instance.secrets import mode_of
    from tbot_core.plugins import discovery, lock
    from tbot_core.vault.error_codes import Code

    texts = found.known_texts()
    source = source_named(texts)
    if not wish.dry or source == SIMULATED.lower():
        return False
    try:
        if mode_of(load(wish.home, mode="replay", sources=found), source) != "live":
            return False
    except VaultError as fault:
        if fault.code != Code.CONTENT_ABSENT.text:
            raise
        return False  # a source without credentials has no account
    lock.insist(Instance.at(wish.home).home, discovery.mark(discovery.plugins(), enabled(texts)))
    return True


def trade(wish: Wish, *, as_json: bool, editions: Editions | None = None) -> Outcome:
    """Run what is wished for, with the settings of that edition, and show it."""
    import asyncio

    from tbot_core.alerts.service import beside
    from tbot_core.cli import run_display
    from tbot_core.engine.bootstrap import assemble
    from tbot_core.engine.disk_guard import Room
    from tbot_core.engine.run import run
    from tbot_core.engine.run_plan import Plan
    from tbot_core.engine.settings_reload import Renewal
    from tbot_core.model.clock import SystemClock

    clock = SystemClock()
    overrides = {} if wish.seed is None else {"SEED": str(wish.seed)}
    found = None if editions is None else editions.found
    if found is not None and wish.mode in MARKET and not wish.dry:
        overrides = kept(wish, found, clock.now()) | overrides
    assembly = assemble(wish.home, wish.mode, clock, overrides, found)
    shown = run_display.shown(wish, assembly, clock, as_json=as_json)
    renewal = Renewal()
    if editions is not None and wish.mode in MARKET:
        editions.begin(assembly.settings, assembly.trial)
        renewal = Renewal(editions.look)
    plan = Plan(
        assembly=assembly,
        request=request(wish, assembly),
        wall=clock,
        pace=_pace(wish, watched=shown.watched),
        once=wish.once,
        room=Room.of(assembly.settings.instance.data) if wish.mode in MARKET and not wish.dry else Room(),
        renewal=renewal,
    )
    with shown, beside(assembly, clock, again(wish)) as attended:
        outcome = asyncio.run(run_display.stoppable(attended(run(plan, shown.watcher)), plan.stop, plan.kill))
    if not outcome.renewed:
        shown.end(outcome)
    return outcome


def kept(wish: Wish, found: Sources, now: dt.datetime) -> dict[str, str]:
    """The settings of a session that goes on, where the files say otherwise now: a change counts from the next one."""
    from tbot_core.engine.settings_reload import held
    from tbot_core.errors import TbotError
    from tbot_core.instance import Instance, load

    texts = held(Instance.at(wish.home).journal, now, simulated=_simulated(found))
    try:
        fresh = load(wish.home, mode=wish.mode, sources=found).values if texts else {}
    except TbotError:
        return texts
    return {name: text for name, text in texts.items() if name not in fresh or fresh[name].text != text}


def _simulated(found: Sources) -> bool:
    return found.known_texts().get("BROKER_NAME", SIMULATED).strip().upper() in {"", SIMULATED}


def again(wish: Wish) -> tuple[str, ...]:
    """The command that starts a run of paper trading once more, as nobody looks on."""
    options = {"--once": wish.once, "--allow-shared-key": wish.allow_shared_key}
    values = {"--home": wish.home.absolute(), "--symbols": ",".join(wish.symbols) or None, "--seed": wish.seed}
    given = [f"{name}={value}" for name, value in values.items() if value is not None]
    return (sys.executable, "-P", "-m", "tbot_core", "run", *given, *(name for name, on in options.items() if on))


def request(wish: Wish, assembly: Assembly) -> FeedRequest:
    """What the run asks of its feed."""
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


def code(wish: Wish, outcome: Outcome) -> int:
    """The exit code: 1 where the running market may have left something open, 130 for a stopped simulation, else 0."""
    if wish.mode in MARKET:
        return 1 if outcome.open or outcome.unconfirmed else 0
    return STOPPED if outcome.stopped else 0


def _pace(wish: Wish, *, watched: bool) -> float | None:
    # A demo that somebody watches is slowed down, unless told otherwise.
    if wish.rate == 0.0:
        return None
    return WATCHABLE_RATE if wish.rate is None and wish.mode == "demo" and watched else wish.rate
