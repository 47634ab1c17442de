"""`tbot audit verify`: verifies the hash chains of the journals and of the secrets audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tbot_core.cli.options import confirm, emit, home_option, json_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@click.group("audit")
def command() -> None:
    """Verify the hash chains of the journals and of the secrets audit log."""


@command.command("verify", short_help="Verify the hash chains of journals and secrets log.")
@click.option("--secrets-head", metavar="COUNT:HASH", help="A head of the secrets log, from a log kept elsewhere.")
@click.option("--journal-head", metavar="COUNT:HASH", help="A head of the journal, likewise.")
@home_option
@json_option
def verify(home: Path | None, *, secrets_head: str | None, journal_head: str | None, as_json: bool) -> int:
    """Verify the hash chain of each journal and of the secrets audit log. Exits with 0 if all are intact, 1 if not.

    A head comes from a line `chain.heads` of the log. It proves that nothing before it was cut off or replaced.
    """
    from tbot_core.actions.audit import audit_document, parse_head

    document = audit_document(home, parse_head(journal_head), parse_head(secrets_head))
    emit(document, as_json=as_json, lines=_lines(document))
    return 0 if document["verified"] else 1


@command.command("accept", short_help="Accept a journal that is older than its head in the audit log.")
@click.option("--yes", "agreed", is_flag=True, help="Accept an older journal without a prompt.")
@home_option
@json_option
def accept(home: Path | None, *, agreed: bool, as_json: bool) -> int:
    """Accept the journal as it is, where it is older than its head in the audit log, and trade on with it.

    Shows what is known of the missing events, asks, and records the acceptance in the audit log. A running bot leaves
    exit-only once readings of the account have agreed for 60 s. Live trading needs a new `tbot arm`.

    It also records from which event on the journal has a keyed chain, where no line says so: where the key was made
    while a bot ran, or where data/audit.log was lost; not while a bot runs. Compare the journal with the lines
    `chain.heads` of collected logs before.
    """
    from tbot_core.actions.audit import accept_chain, acceptance_lines, lost_events

    if lost := lost_events(home):
        for line in lost:
            click.echo(line, err=as_json)
        if not agreed:
            confirm("Accept the journal as it is?", "accepted")
    done = accept_chain(home)
    emit(done, as_json=as_json, lines=acceptance_lines(done))
    return 1 if done["pending"] else 0


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    journals, secrets = document["journals"], document["secrets"]
    if not journals:
        yield "No journal yet."
    for row in (*journals, *filter(None, [secrets])):
        text = f"{row['events']} events, head {row['head'][:16]}" if row["verified"] else row["fault"]
        yield f"{'ok' if row['verified'] else 'FAIL':4}  {row['run']:16}  {text}"
