"""`tbot stop`, `kill`, `arm`, `disarm`, `defense`, `confirm` and `service`: what a person asks of a running bot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tbot_core.cli.options import (
    BoundedInt,
    chosen_option,
    emit,
    home_option,
    json_option,
    print_progress,
    shared_key_option,
)
from tbot_core.instance.sources import find_instance
from tbot_core.status.runs import bot_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tbot_core.actions.service import ServiceChange


@click.command("stop")
@click.option("--flatten", is_flag=True, help="Close all positions now.")
@click.option("--keep", is_flag=True, help="Stop at once; positions keep their stops.")
@click.option("--cancel", is_flag=True, help="Undo the stop.")
@home_option
@json_option
def stop_command(*, home: Path | None, as_json: bool, **options: bool) -> int:
    """Graceful stop: block entries, manage positions to their exits, then end. Exits with 1 if anything stays open."""
    from tbot_core.actions import control_requests

    answer = control_requests.request("-".join(filter(None, ("stop", chosen_option(**options)))), home)
    lines = [control_requests.stop_sentence(answer), *control_requests.result_notes(answer)]
    emit(answer.document(), as_json=as_json, lines=lines)
    return 1 if answer.lost or control_requests.left_open(answer) else 0


@click.command("kill")
@click.option("--flatten", is_flag=True, help="Also close all positions.")
@click.option("--clear", is_flag=True, help="Undo the kill.")
@home_option
@json_option
def kill_command(*, home: Path | None, as_json: bool, **options: bool) -> int:
    """Block entries and cancel working entry orders. Stops stay; time exits are suspended; it survives a restart.

    With --clear it exits with 1 if the file control/kill exists: the state stays halted until the file is removed.
    """
    from tbot_core.actions import control_requests

    answer = control_requests.request("-".join(filter(None, ("kill", chosen_option(**options)))), home)
    lines = [control_requests.kill_sentence(answer), *control_requests.result_notes(answer)]
    emit(answer.document(), as_json=as_json, lines=lines)
    return 1 if answer.lost or control_requests.stays_killed(answer) else 0


@click.command("arm")
@click.option(
    "--sessions", "count", type=BoundedInt(1, 5), default=1, metavar="N", help="Number of sessions. Default: 1."
)
@home_option
@json_option
def arm_command(*, count: int, home: Path | None, as_json: bool) -> int:
    """Arm live trading to the end of the session, or for N sessions, without a question.

    Exits with 5 if a running bot is not armed afterwards; without one the next start is armed. A loss latch, `tbot
    disarm`, and a change of settings, plugins, mode or account end it.
    """
    from tbot_core.actions.operator_requests import arm, arming_code, arming_sentence

    subject, answer = arm(home, count)
    document = answer.document() | {"subject": subject.document()}
    emit(document, as_json=as_json, lines=[subject.line, arming_sentence(answer)])
    return arming_code(answer)


@click.command("disarm")
@home_option
@json_option
def disarm_command(*, home: Path | None, as_json: bool) -> int:
    """Disarm: block live entries. Open positions are managed to their exits. No settings or secrets are opened.

    Where only paper trading is recorded and no arming waits, it does nothing.
    """
    from tbot_core.actions import operator_requests
    from tbot_core.actions.control_requests import RequestResult
    from tbot_core.engine.control import ControlVerb

    answer = operator_requests.disarm(home)
    if answer is None:
        document = RequestResult(verb=ControlVerb.DISARM, process=None).document()
        emit(document, as_json=as_json, lines=["Nothing is armed: paper trading needs no arming. No request was sent."])
        return 0
    emit(answer.document(), as_json=as_json, lines=[operator_requests.arming_sentence(answer)])
    return operator_requests.arming_code(answer)


@click.group("defense")
def defense() -> None:
    """Reduced-risk mode: on, off, status. It uses DEFENSE_MODE_TRADE_LIMIT_PCT and DEFENSE_MODE_TOTAL_ALLOCATION."""


@defense.command("on")
@home_option
@json_option
def defense_on(*, home: Path | None, as_json: bool) -> int:
    """Switch defense on, until `tbot defense off`."""
    return _send_defense("defense-on", home, as_json=as_json)


@defense.command("off")
@home_option
@json_option
def defense_off(*, home: Path | None, as_json: bool) -> int:
    """Switch defense off. Exits with 5 while another cause keeps it on; the cause is named."""
    return _send_defense("defense-off", home, as_json=as_json)


@defense.command("status", short_help="Show the risk state, its causes and requests.")
@home_option
@json_option
def defense_status(*, home: Path | None, as_json: bool) -> int:
    """Show the risk state, its causes, and the requests in the control folder."""
    from tbot_core.actions.operator_requests import defense_document, state_sentence
    from tbot_core.model.clock import SystemClock

    document = defense_document(home, SystemClock().now())
    emit(document, as_json=as_json, lines=[state_sentence(document), *document["requests"]])
    return 0


def _send_defense(verb: str, home: Path | None, *, as_json: bool) -> int:
    from tbot_core.actions.control_requests import request, result_notes
    from tbot_core.actions.operator_requests import defense_code, defense_sentence

    answer = request(verb, home)
    emit(answer.document(), as_json=as_json, lines=[defense_sentence(answer), *result_notes(answer)])
    return defense_code(answer)


@click.command("confirm")
@click.argument("entry_id", metavar="[ID]", required=False)
@click.option("--reject", is_flag=True, help="Reject the entry.")
@home_option
@json_option
def confirm_command(*, entry_id: str | None, reject: bool, home: Path | None, as_json: bool) -> int:
    """List the entries that need a confirmation, or confirm the entry ID; it is priced and checked again.

    Exits with 5 if the entry has expired, is decided already, or is denied by the second check.
    """
    import asyncio

    from tbot_core.actions.operator_requests import (
        entry_document,
        entry_with_id,
        kept_answers,
        pending_entries,
        send_answer,
    )
    from tbot_core.engine.control import ControlVerb
    from tbot_core.errors import UsageError
    from tbot_core.model.clock import SystemClock

    clock = SystemClock()
    instance = find_instance(home)
    if entry_id is None:
        if reject:
            raise UsageError("--reject needs the ID of an entry.", "`tbot confirm` lists the entries.")
        shown = pending_entries(instance).open_entries(bot_time(instance, clock.now()))
        answers = {name: f"{one.verb.value} by {one.actor}" for name, one in kept_answers(instance).items()}
        waiting = [entry_document(one) | {"answer": answers.get(one["id"])} for one in shown]
        emit({"waiting": waiting}, as_json=as_json, lines=_pending_lines(shown, answers))
        return 0
    entry = entry_with_id(pending_entries(instance), entry_id, bot_time(instance, clock.now()))
    outcome = asyncio.run(send_answer(instance, ControlVerb.REJECT if reject else ControlVerb.CONFIRM, entry, clock))
    emit(outcome.document(), as_json=as_json, lines=[outcome.sentence])
    return outcome.code


def _pending_lines(shown: Sequence[Mapping[str, Any]], answers: Mapping[str, str]) -> Iterator[str]:
    # The pending entries as text, with the answers that wait for a bot by the id of their entry.
    from datetime import datetime

    from tbot_core.actions.operator_requests import entry_text
    from tbot_core.model.clock import both_times

    if not shown:
        yield "No entry needs a confirmation."
    for one in shown:
        kept = f"; {answers[one['id']]}, waits for a bot" if one["id"] in answers else ""
        yield f"{one['id']:8} {entry_text(one)}, until {both_times(datetime.fromisoformat(one['expires']))}{kept}"


@click.group("service", no_args_is_help=True)
def service() -> None:
    """Keep `tbot run` going, day after day, without a terminal: it is started again after a crash.

    Where systemd's user manager answers, a user unit does it, else a small supervisor of tbot's own.
    """


@service.command("start")
@click.option("--symbols", metavar="A,B", help="Only these symbols.")
@shared_key_option
@home_option
@json_option
def service_start(*, symbols: str | None, allow_shared_key: bool, home: Path | None, as_json: bool) -> int:
    """Start the bot and keep it going; one that is kept going already stays as it is.

    Exits with 1 if it does not run, or if a bot runs here that was started by hand.
    """
    from tbot_core.actions.service import start_service
    from tbot_core.model.dates import parse_symbols

    named = ",".join(parse_symbols(symbols))
    options = [f"--symbols={named}"] if named else []
    options += ["--allow-shared-key"] if allow_shared_key else []
    return _show_service(start_service(home, options, notice=print_progress), as_json=as_json)


@service.command("stop")
@home_option
@json_option
def service_stop(*, home: Path | None, as_json: bool) -> int:
    """Stop the bot by STOP_POLICY, and its supervisor, also for after a reboot. Exits with 1 if anything stays open."""
    from tbot_core.actions.service import stop_service

    return _show_service(stop_service(home, notice=print_progress), as_json=as_json)


@service.command("status")
@home_option
@json_option
def service_status_command(*, home: Path | None, as_json: bool) -> int:
    """Show whether the bot is kept going, since when, its restarts, its last exit and its last lines.

    Exits with 1 if it is down although it was started and not stopped.
    """
    from tbot_core.actions.service import service_status, status_lines

    found = service_status(home)
    emit(found or {"running": False, "wanted": False, "failed": False}, as_json=as_json, lines=status_lines(found))
    return int(found is not None and found["failed"])


def _show_service(change: ServiceChange, *, as_json: bool) -> int:
    emit(change.document(), as_json=as_json, lines=change.sentences)
    return change.code
