"""`tbot audit verify`: verifies the hash chains of the journals and of the secrets audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from tbot_core.cli.options import emit, home_option, json_option
from tbot_core.errors import JournalError, UsageError, VaultError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.journal.store import Journal
    from tbot_core.vault.audit_log import AuditAnchor

_DIGITS: Final = 18


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
    rows = verify_journals(home, parse_head(journal_head))
    secrets = verify_secrets_log(home, parse_head(secrets_head))
    intact = all(row["verified"] for row in (*rows, *secrets))
    document = {"journals": rows, "secrets": secrets[0] if secrets else None, "verified": intact}
    emit(document, as_json=as_json, lines=_lines(rows, secrets))
    return 0 if intact else 1


@command.command("accept", short_help="Accept the journal as it is under the audit key.")
@home_option
@json_option
def accept(home: Path | None, *, as_json: bool) -> int:
    """Record in the audit log from which event on the journal has a keyed chain, where no line says so.

    That line is missing where the key was made while a bot ran, or where data/audit.log was lost. Compare the journal
    with the lines `chain.heads` of collected logs before: what it holds now is accepted. Not while a bot runs.
    """
    from tbot_core.errors import SettingsError
    from tbot_core.instance import Instance, is_there
    from tbot_core.instance.journal_key import accept_journal
    from tbot_core.system import filesystem

    instance = Instance.at(home)
    if not (is_there(instance) or filesystem.is_folder(instance.data)):
        raise SettingsError(f"{instance.home} is not an instance.", "Give its folder with --home.")
    first, is_new = accept_journal(instance)
    said = "Accepted: the audit log now says" if is_new else "Nothing to accept: the audit log says already"
    words = f"{said} that the chain of the journal is keyed from event {first} on."
    emit({"keyed_from": first, "accepted": is_new}, as_json=as_json, lines=[words])
    return 0


def parse_head(text: str | None) -> AuditAnchor | None:
    """The head of a chain as the log shows it; None without one. Raises UsageError."""
    from tbot_core.vault.audit_log import AuditAnchor

    if text is None:
        return None
    count, _, digest = text.partition(":")
    if not (count.isdecimal() and len(count) <= _DIGITS and int(count) and digest):
        raise UsageError(f"{text[:_DIGITS]} is not a head.", "Give COUNT:HASH as in the line chain.heads of the log.")
    return AuditAnchor(count=int(count), hash=digest)


def verify_journals(home: Path | None, head: AuditAnchor | None = None) -> list[dict[str, Any]]:
    """Each journal with its number of events and its head hash, or with its fault; the newest first.

    `head`: an earlier head of the journal of paper and live trading.
    """
    from tbot_core.instance import Instance
    from tbot_core.instance.journal_key import chain_key
    from tbot_core.status.runs import PAPER, RunFile, open_run_file, run_files

    instance, rows = Instance.at(home), list[dict[str, Any]]()
    files = run_files(instance)
    if head is not None and all(file.path != instance.journal for file in files):
        files = [RunFile(name=PAPER, path=instance.journal, changed=0.0), *files]  # its absence is a fault then
    for file in files:
        row = {"run": file.name, "verified": False, "events": None, "head": None, "fault": ""}
        own = file.path == instance.journal
        try:
            with open_run_file(file) as journal:
                events, digest = journal.verify(chain_key(instance) if own else None)
                if own and head is not None:
                    _assert_head(journal, head)
                row |= {"verified": True, "events": events, "head": digest}
        except (JournalError, VaultError) as fault:
            row["fault"] = str(fault)
        rows.append(row)
    return rows


def _assert_head(journal: Journal, head: AuditAnchor) -> None:
    event = next(journal.events(head.count - 1), None)
    if event is None or event.hash != head.hash:
        raise JournalError(
            f"The journal {journal.path} does not have the event {head.count} of the given head: its end was cut off, "
            "or another journal took its place.",
            "Restore it from a backup, or keep it as evidence.",
        )


def verify_secrets_log(home: Path | None, head: AuditAnchor | None = None) -> list[dict[str, Any]]:
    """The secrets audit log as a row like that of a journal; no row where nothing is logged and no head is given."""
    from tbot_core.actions.access_log import verify_audit_log
    from tbot_core.instance import Instance
    from tbot_core.vault.audit_log import log_path

    instance = Instance.at(home)
    row = {"run": log_path(instance).name, "verified": False, "events": None, "head": None, "fault": ""}
    try:
        anchor = verify_audit_log(instance, () if head is None else (head,))
    except VaultError as fault:
        return [row | {"fault": str(fault)}]
    return [] if anchor is None else [row | {"verified": True, "events": anchor.count, "head": anchor.hash}]


def _lines(rows: list[dict[str, Any]], secrets: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        yield "No journal yet."
    for row in (*rows, *secrets):
        text = f"{row['events']} events, head {row['head'][:16]}" if row["verified"] else row["fault"]
        yield f"{'ok' if row['verified'] else 'FAIL':4}  {row['run']:16}  {text}"
