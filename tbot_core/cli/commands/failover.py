"""`tbot failover`: run a drill, show the status, and confirm the exposure at an unreachable broker."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import click

from tbot_core.cli.options import emit, home_option, json_option
from tbot_core.model.formatting import format_money, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tbot_core.actions.control_requests import RequestResult
    from tbot_core.engine.assembly import Assembly
    from tbot_core.journal.projections.failover import DrillStep, FailoverDrill
    from tbot_core.model.clock import Clock

_REFUSED: Final = 5
_SMALLEST: Final = -10


@click.group("failover")
def command() -> None:
    """Broker failover: run a drill, show the status, or confirm the exposure at an unreachable broker."""


@command.command("drill", short_help="Test failover: probe the brokers, rehearse outages.")
@home_option
@json_option
def drill(*, home: Path | None, as_json: bool) -> int:
    """Test failover: probe the brokers, and route entries in simulated outages. Exits with 1 if a step fails.

    A passed drill is valid for 30 days; without one, no entry goes to another broker. No order is sent.
    """
    from tbot_core.cli.run_options import hold_instance_lock
    from tbot_core.journal import codec
    from tbot_core.model.clock import SystemClock

    clock = SystemClock()
    with hold_instance_lock(_home(home)):
        result = _run_drill(home, clock)
    lines = [*map(_line, result.steps), drill_outcome(result)]
    emit(codec.write(result.event) | {"time": result.time.isoformat()}, as_json=as_json, lines=lines)
    return 0 if result.passed else 1


@command.command("status", short_help="Show circuit breakers, positions, orders and moves.")
@home_option
@json_option
def status(*, home: Path | None, as_json: bool) -> int:
    """Show the circuit breaker per broker, positions and orders, moved leases, and the last drill.

    Exits with 1 while a broker of the session is not proven to respond.
    """
    from tbot_core.instance import load_settings
    from tbot_core.model.clock import SystemClock
    from tbot_core.status.failover import events_of, failover_document

    settings = load_settings(_home(home), mode="replay")
    shown = failover_document(settings, events_of(settings), SystemClock().now())
    emit(shown, as_json=as_json, lines=_status_lines(shown))
    return 1 if shown["broken"] else 0


@command.command("confirm", short_help="Confirm the exposure at an unreachable broker.")
@click.option(
    "--amount",
    required=True,
    metavar="USD",
    help="Largest possible exposure there: all positions, and orders at their worst fills.",
)
@home_option
@json_option
def confirm(*, amount: str, home: Path | None, as_json: bool) -> int:
    """Confirm the exposure at the unreachable broker, so that entries may go to the next one.

    The amount counts as exposure in every limit until that broker is proven to respond. Check the account first, in the
    broker's web page or app, or by telephone. Exits with 5 if refused: every broker responds, or the journal reserves
    more. For a position left at a broker that the settings no longer name, 0 confirms that it is closed.
    """
    from tbot_core.actions.control_requests import request
    from tbot_core.errors import RiskError
    from tbot_core.instance.sources import find_instance

    amount = _parse_dollars(amount)
    instance = find_instance(home)
    if instance.lock_holder is None:
        raise RiskError("No bot is running, so there is no outage to confirm.", "`tbot run` starts one.")
    answer = request("failover-confirm", home, {"amount": amount})
    emit(answer.document() | {"amount": amount}, as_json=as_json, lines=[_confirm_text(answer, amount)])
    return _REFUSED if answer.refused else 1 if answer.lost else 0


def _parse_dollars(text: str) -> str:
    # The amount of --amount; raises UsageError for an invalid one.
    from decimal import InvalidOperation

    from tbot_core.engine.live.failover import MOST_USD
    from tbot_core.errors import UsageError

    try:
        amount = Decimal(text.strip())
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or not 0 <= amount <= MOST_USD or int(amount.as_tuple().exponent) < _SMALLEST:
        raise UsageError(
            f"--amount {text}: invalid amount in USD.", "Give dollars, as in --amount 6000, or 0 for none."
        )
    return f"{amount:f}"


def _home(home: Path | None) -> Path:
    from tbot_core.instance.sources import find_instance

    return find_instance(home).home


def _run_drill(home: Path | None, clock: Clock) -> FailoverDrill:
    # Run a drill and record it.
    import asyncio

    from tbot_core.engine.bootstrap import assemble
    from tbot_core.instance import load_settings
    from tbot_core.instance.journal_chain import open_instance_journal
    from tbot_core.instance.secrets import account_mode
    from tbot_core.journal.projections.failover import FailoverDrill
    from tbot_core.journal.store import JournalRecorder
    from tbot_core.rehearsal.failover_drill import rehearse_trials

    settings = load_settings(home, mode="replay")
    live = account_mode(settings) == "live"
    assembly = assemble(home, "live" if live else "paper", clock)
    names = assembly.settings.brokers
    steps = [*asyncio.run(assembly.closing(_probe_brokers(assembly, names, clock))), *rehearse_trials()]
    result = FailoverDrill(brokers=names, settings=assembly.settings.fingerprint, time=clock.now(), steps=tuple(steps))
    journal = open_instance_journal(assembly.settings.instance, live=live)
    try:
        JournalRecorder(journal=journal, clock=clock).record(result.event)
    finally:
        journal.close()
    return result


async def _probe_brokers(assembly: Assembly, names: Sequence[str], clock: Clock) -> list[DrillStep]:
    # Whether each broker that is not simulated responds.
    from tbot_core.engine.live.broker_check import probe_broker
    from tbot_core.model.clock import exchange_time

    session = assembly.calendar.next(exchange_time(clock.now()).date())
    built = [(name, assembly.broker(name)) for name in names]
    return [await probe_broker(name, one, session, clock) for name, one in built if not one.capabilities.simulated]


def _line(step: DrillStep) -> str:
    return f"{'ok' if step.passed else 'FAIL':<5} {step.what}{f': {step.words}' if step.words else ''}"


def drill_outcome(result: FailoverDrill) -> str:
    """The outcome of a drill as a sentence."""
    names = ", ".join(result.brokers)
    if not result.passed:
        return f"Drill failed: no entry goes to another broker ({names})."
    if len(result.brokers) == 1:
        return f"Drill passed, but failover from {names} is off: {_how_to_switch_on(names)}."
    return f"Drill passed for {names}; it is valid for 30 days."


def _how_to_switch_on(primary: str) -> str:
    from tbot_core.engine.assembly import SIMULATOR

    if primary == SIMULATOR:
        return "no broker takes over from a simulated venue"
    return "FAILOVER_ENABLED and FAILOVER_BROKERS switch it on"


def _confirm_text(answer: RequestResult, amount: str) -> str:
    if answer.lost:
        return answer.lost
    return (
        f"{amount} USD count as exposure at the broker that does not respond or is not named; entries may go to the "
        "others."
    )


def _status_lines(shown: Mapping[str, Any]) -> Iterator[str]:
    # The status as text: each broker, moved leases, an outage, the last drill, and the command to run next.
    if len(shown["places"]) == 1:
        yield f"Failover is off: {_how_to_switch_on(shown['places'][0]['name'])}."
    yield from map(_broker, shown["places"])
    yield from (f"entries in {symbol} go to {owner}" for symbol, owner in shown["leases"].items())
    if shown["broken"]:
        why = f" ({shown['why']})" if shown["why"] else ""
        yield f"The primary broker does not respond: {shown['phase']}{why}."
    yield f"Drill: {shown['objection'] or shown['drill'] or 'none yet'}."
    yield f"Next: {shown['next']}"


def _broker(one: Mapping[str, Any]) -> str:
    held = ", ".join(one["held"]) or "nothing"
    confirmed = f", confirmed {format_money(Decimal(one['confirmed']))}" if one["confirmed"] else ""
    worst = f"worst case {format_money(Decimal(one['reserved']))}{confirmed}"
    return f"{one['name']:<10} {one['circuit']:<10} holds {held}, {plural(one['orders'], 'open order')}, {worst}"
