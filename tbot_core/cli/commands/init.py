"""`tbot init`: creates an instance with folders, keys, encrypted settings and secrets, an identity and a journal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tbot_core.cli.options import confirm_plugins, home_option, print_progress, print_warning
from tbot_core.errors import TbotError, UsageError
from tbot_core.system.signals import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TextIO

    from tbot_core.instance import Instance


_BACK_UP: Final = "Its keys are in storage/keys: back them up on another machine."


@click.command("init")
@click.option("--paper", is_flag=True, help="Create a complete paper trading instance without questions.")
@click.option(
    "--from-json", "document", type=click.File(), help="Read the answers from a JSON file; - is standard input."
)
@click.option("--from-env", is_flag=True, help="Import credentials from the vendors' usual environment variables.")
@click.option("--adopt", is_flag=True, help="Adopt an existing .env and .env_bot, or an older installation.")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help="With --adopt: the folder that has them; it is not changed. Default: the instance's folder.",
)
@click.option(
    "--without", metavar="CATEGORY", multiple=True, help="With --adopt: leave out a category of secrets. Repeatable."
)
@home_option
def command(  # noqa: PLR0913  the options
    *,
    paper: bool,
    document: TextIO | None,
    from_env: bool,
    adopt: bool,
    source: Path | None,
    without: tuple[str, ...],
    home: Path | None,
) -> int:
    """Create an instance, completely or not at all; existing files are never overwritten. Ends with `tbot check`.

    Without an option it asks on a terminal: for broker, identity, credentials and alerts. Secret values are hidden, and
    the credentials are tested. Exits with 130 if it is interrupted; nothing was created then.
    """
    from tbot_core.instance import Instance

    given = {"--paper": paper, "--from-json": document is not None, "--from-env": from_env, "--adopt": adopt}
    _refuse_combination([name for name, there in given.items() if there])
    if not adopt and (source is not None or without):
        raise UsageError("--from and --without belong to --adopt.", "Add --adopt.")
    instance = Instance.at(home)
    _undo_interrupted(instance)
    try:
        lines = _adopt(instance, source, without) if adopt else []
        if not adopt and any(given.values()):
            _make_from_sources(instance, document, from_env=from_env)
        elif not adopt:
            _make_from_answers(instance)
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nNothing was created.", err=True)
        return INTERRUPTED
    click.echo("\n".join([*lines, f"Created the instance {instance.home}.", _BACK_UP]))
    if not adopt:
        _tell_market(instance)
    _approve_plugins(home, given)
    return _print_check(home)


def _tell_market(instance: Instance) -> None:
    # That an instance on the built-in broker trades invented prices.
    from tbot_core.cli.setup_wizard import SIMULATOR
    from tbot_core.engine.bootstrap import data_source_name
    from tbot_core.instance.plugin_settings import invented_market_note
    from tbot_core.instance.sources import read_settings_files

    if data_source_name(read_settings_files(instance).texts()) == SIMULATOR:
        click.echo(invented_market_note())


def _refuse_combination(given: Sequence[str]) -> None:
    # Only --from-json and --from-env go together: settings and other answers, and the vendors' credentials.
    if len(given) > 1 and {*given} != {"--from-json", "--from-env"}:
        raise UsageError(f"{' and '.join(given)} exclude each other.", "Give one of them.")


def _make_from_answers(instance: Instance) -> None:
    from tbot_core.actions.instance_creation import create_instance, refuse_occupied
    from tbot_core.cli.setup_wizard import ask_person
    from tbot_core.system import terminal

    refuse_occupied(instance)
    if not terminal.is_interactive():
        raise UsageError(
            "`tbot init` asks questions, but standard input is not a terminal.",
            "Three ways need none: --paper makes a paper trading instance, --from-json FILE reads the answers, "
            "--from-env takes over the vendors' environment variables.",
        )
    create_instance(instance, ask_person(instance))


def _make_from_sources(instance: Instance, document: TextIO | None, *, from_env: bool) -> None:
    from tbot_core.actions.instance_creation import (
        choose_broker,
        make_instance,
        parse_document,
        refuse_occupied,
        vendor_credentials,
        with_credentials,
    )

    refuse_occupied(instance)
    answers: dict[str, Any] = {} if document is None else parse_document(document)
    if from_env:
        credentials, notes = vendor_credentials(answers)
        answers = with_credentials(answers, credentials)
        for note in notes:
            click.echo(note)
    answers, sentences = choose_broker(answers)
    make_instance(instance, answers, "the values" if document is None else "the JSON input", print_warning)
    for sentence in sentences:
        click.echo(sentence)


def pin_plugins(home: Path | None) -> None:
    """Do what `approve_installed` does, and print the result."""
    from tbot_core.actions.plugins import approve_installed

    proposal = approve_installed(home)
    if proposal.warnings:
        for warning in proposal.warnings:
            click.echo(f"No plugin is approved: {warning}")
        return
    click.echo(f"Approved the {len(proposal.proposed.plugins)} plugins of its settings as they are installed now.")


def _approve_plugins(home: Path | None, given: Mapping[str, bool]) -> None:
    # Without questions for paper trading, by a person where one was asked for the rest.
    if given["--paper"]:
        pin_plugins(home)
    elif not (given["--from-json"] or given["--from-env"]):
        _offer_approval(home)


def _offer_approval(home: Path | None) -> None:
    # For a live account what `tbot plugins lock` asks: only a person approves plugins for live money.
    from tbot_core.actions.checks import SettingsExaminer
    from tbot_core.actions.plugin_declarations import plugin_declarations
    from tbot_core.actions.plugins import approve_lock, propose_lock
    from tbot_core.system import terminal

    if not terminal.is_interactive() or SettingsExaminer(home, plugin_declarations(home)).start_mode() != "live":
        return
    click.echo("\nLive trading imports only approved plugins. Those of these settings, and what each may do:")
    try:
        proposal = propose_lock(home, None)
        for line in (*proposal.warnings, *proposal.change_lines):
            click.echo(line)
        approve_lock(proposal, confirm_plugins)
        click.echo(proposal.result)
    except click.Abort:
        click.echo("No plugin is approved.")
    except TbotError as fault:
        click.echo(f"No plugin is approved: {fault}")


def _undo_interrupted(instance: Instance) -> None:
    from tbot_core.instance.creation_marker import undo_creation

    if undo_creation(instance):
        click.echo("An interrupted `tbot init` had begun this instance; what it had made was removed.")


def _adopt(instance: Instance, source: Path | None, without: tuple[str, ...]) -> list[str]:
    from tbot_core.actions import adoption
    from tbot_core.cli.interview import ask_missing_secrets
    from tbot_core.system import terminal

    found = adoption.read_adoption(instance, source, without=without)
    answers = ask_missing_secrets(found) if terminal.is_interactive() else {}
    adoption.adopt(instance, found, answers)
    return list(adoption.adoption_lines(instance, found, answers))


def _print_check(home: Path | None) -> int:
    from tbot_core.actions.checks import check_created
    from tbot_core.cli.interview import wrapped
    from tbot_core.system import terminal

    result, unapproved = check_created(home, print_progress)
    for row in result.rows:
        if row.level in {"fail", "warn"}:
            head = f"{row.level:<5} {row.subject:<9} "
            click.echo(wrapped(str(row), first=head, rest=" " * len(head)) if terminal.columns() else f"{head}{row}")
    click.echo(result.sentence)
    if unapproved:
        click.echo("Next: `tbot plugins lock` approves the plugins; live trading imports no others.")
    return result.code
