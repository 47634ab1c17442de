"""`tbot audit verify`: verifies the hash chains of the journals and of the secrets audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tbot_core.cli.options import emit, home_option, json_option

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


@command.command("accept", short_help="Accept the journal as it is under the audit key.")
@home_option
@json_option
def accept(home: Path | None, *, as_json: bool) -> int:
    """Record in the audit log from which event on the journal has a keyed chain, where no line says so.

    That line is missing where the key was made while a bot ran, or where data/audit.log was lost. Compare the journal
    with the lines `chain.heads` of collected logs before: what it holds now is accepted. Not while a bot runs.
    """
    from tbot_core.actions.audit import accept_chain

    done = accept_chain(home)
    said = "Accepted: the audit log now says" if done["accepted"] else "Nothing to accept: the audit log says already"
    words = f"{said} that the chain of the journal is keyed from event {done['keyed_from']} on."
    emit(done, as_json=as_json, lines=[words])
    return 0


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    journals, secrets = document["journals"], document["secrets"]
    if not journals:
        yield "No journal yet."
    for row in (*journals, *filter(None, [secrets])):
        text = f"{row['events']} events, head {row['head'][:16]}" if row["verified"] else row["fault"]
        yield f"{'ok' if row['verified'] else 'FAIL':4}  {row['run']:16}  {text}"
