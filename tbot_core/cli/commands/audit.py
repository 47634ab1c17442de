"""`tbot audit verify`: verifies the hash chains of the journals and of the secrets audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tbot_core.cli.options import emit, home_option, json_option
from tbot_core.errors import JournalError, VaultError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@click.group("audit")
def command() -> None:
    """Verify the hash chains of the journals and of the secrets audit log."""


@command.command("verify")
@home_option
@json_option
def verify(home: Path | None, *, as_json: bool) -> int:
    """Verify the hash chain of each journal and of the secrets audit log. Exits with 0 if all are intact, 1 if not."""
    rows, secrets = verify_journals(home), verify_secrets_log(home)
    intact = all(row["verified"] for row in (*rows, *secrets))
    document = {"journals": rows, "secrets": secrets[0] if secrets else None, "verified": intact}
    emit(document, as_json=as_json, lines=_lines(rows, secrets))
    return 0 if intact else 1


def verify_journals(home: Path | None) -> list[dict[str, Any]]:
    """Each journal with its number of events and its head hash, or with its fault; the newest first."""
    from tbot_core.instance import Instance
    from tbot_core.instance.journal_key import chain_key
    from tbot_core.status.runs import open_run_file, run_files

    instance, rows = Instance.at(home), list[dict[str, Any]]()
    for file in run_files(instance):
        row = {"run": file.name, "verified": False, "events": None, "head": None, "fault": ""}
        try:
            with open_run_file(file) as journal:
                key = chain_key(instance) if file.path == instance.journal else None
                events, head = journal.verify(key)
                row |= {"verified": True, "events": events, "head": head}
        except (JournalError, VaultError) as fault:
            row["fault"] = str(fault)
        rows.append(row)
    return rows


def verify_secrets_log(home: Path | None) -> list[dict[str, Any]]:
    """The secrets audit log as a row like that of a journal; no row where nothing is logged."""
    from tbot_core.cli.actions.secrets import verify_audit_log
    from tbot_core.instance import Instance
    from tbot_core.vault.audit_log import log_path

    instance = Instance.at(home)
    row = {"run": log_path(instance).name, "verified": False, "events": None, "head": None, "fault": ""}
    try:
        anchor = verify_audit_log(instance)
    except VaultError as fault:
        return [row | {"fault": str(fault)}]
    return [] if anchor is None else [row | {"verified": True, "events": anchor.count, "head": anchor.hash}]


def _lines(rows: list[dict[str, Any]], secrets: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        yield "No journal yet."
    for row in (*rows, *secrets):
        text = f"{row['events']} events, head {row['head'][:16]}" if row["verified"] else row["fault"]
        yield f"{'ok' if row['verified'] else 'FAIL':4}  {row['run']:16}  {text}"
