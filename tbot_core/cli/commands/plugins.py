"""`tbot plugins`: what is installed, what is enabled, what is broken, and what is approved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tbot_core.cli.options import confirm_plugins, emit, home_option, json_option, print_progress, print_warning
from tbot_core.contracts.permissions import PluginNeeds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LOCK = 4
_ISOLATION = {
    "worker": "in a worker process of its own",
    "in process": "in the process of the bot, with its full rights",
}
_WARNED = frozenset({"CHANGED", "UNLISTED", "UNKNOWN"})


@click.group()
def command() -> None:
    """List plugins, show their details, check, verify and lock them, and write new ones."""


@command.command("list")
@click.option(
    "--probe", "probing", is_flag=True, help="Try each plugin in a process of its own, and record the result."
)
@json_option
@home_option
def list_command(*, probing: bool, as_json: bool, home: Path | None) -> None:
    """List every installed plugin with its state.

    States: active (the settings name it), available, duplicate, incompatible, broken. LOCK: locked, CHANGED since it
    was approved, UNLISTED (in use and in no plugins.lock), UNKNOWN (cannot be determined). Without --probe no plugin is
    imported: the list reads metadata, files and recorded results.
    """
    from tbot_core.actions.plugins import list_plugins

    rows, warnings = list_plugins(home, probing=probing, progress=print_progress)
    for warning in warnings:
        print_warning(warning)
    emit({"plugins": rows}, as_json=as_json, lines=list_lines(rows))


@command.command("info", short_help="Show one plugin: NAME or KIND/NAME.")
@click.argument("name")
@json_option
@home_option
def info_command(*, name: str, as_json: bool, home: Path | None) -> None:
    """Show one plugin: NAME, or KIND/NAME where several kinds use the name.

    Shows its distribution, origin, files and the settings that it declares. Without a recorded result the plugin is
    tried in a process of its own. If several distributions use the name, all of them are shown.
    """
    from tbot_core.actions.plugins import describe_plugin

    facts = describe_plugin(name, home, print_progress)
    emit(facts, as_json=as_json, lines=_detail_lines(facts))


@command.command("new", short_help="Write the package of a new plugin.")
@click.argument("kind", type=click.Choice(["broker", "strategy", "filter", "alert", "extension"]))
@click.argument("name")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), help="Folder of the package. Default: tbot-KIND-NAME."
)
@json_option
def new_command(*, kind: str, name: str, folder: Path | None, as_json: bool) -> None:
    """Write the package of a new plugin: sources, tests, README and pyproject.toml.

    It can be installed at once, and its tests pass: change it step by step. A strategy and a filter compute; a broker
    and an alert channel talk to an invented vendor, which their tests play on this machine.
    """
    from tbot_core.actions.plugin_development import next_steps, write_plugin

    made = write_plugin(kind, name, folder)
    document = {"folder": str(made.folder), "files": list(made.files), "distribution": made.distribution}
    emit(document, as_json=as_json, lines=next_steps(made))


@command.command("check", short_help="Run the contract of an installed plugin.")
@click.argument("name")
@json_option
@home_option
def check_command(*, name: str, as_json: bool, home: Path | None) -> int:
    """Run the contract of one plugin: NAME, or KIND/NAME where several kinds use the name.

    It runs in a process of its own, with default settings. Strategies and filters are tested on the kit's market,
    brokers and alert channels at the venue that they offer, with the capabilities that they declare. Exit code 1 if a
    case fails.
    """
    from tbot_core.actions.plugin_development import check_contract, contract_lines

    document = check_contract(name, home)
    emit(document, as_json=as_json, lines=contract_lines(document))
    return 0 if document["passed"] else 1


@command.command("lock", short_help="Pin every file of the enabled plugins.")
@click.option("--approver", metavar="NAME", help="Who approves. Default: the name of the account.")
@click.option("--yes", "agreed", is_flag=True, help="Approve without a prompt.")
@json_option
@home_option
def lock_command(*, approver: str | None, agreed: bool, as_json: bool, home: Path | None) -> None:
    """Pin every file of every enabled plugin in the instance's plugins.lock.

    Shows the changes since the last lock and asks before it writes. A plugin whose permissions are not recorded is
    first tried in a process of its own.
    """
    from tbot_core.actions.plugins import approve_lock, propose_lock

    proposal = propose_lock(home, approver)
    for warning in proposal.warnings:
        print_warning(warning)
    for line in proposal.change_lines:
        click.echo(line, err=as_json)
    approve_lock(proposal, None if agreed else confirm_plugins)
    emit(proposal.document, as_json=as_json, lines=[proposal.result])


@command.command("verify", short_help="Compare the installed plugins with plugins.lock.")
@json_option
@home_option
def verify_command(*, as_json: bool, home: Path | None) -> int:
    """Compare the installed plugins with plugins.lock, by metadata and hashes only.

    Exit code 0: every enabled plugin is as approved; 1: something differs, or there is no lock.
    """
    from tbot_core.actions.plugins import verify_plugins

    document, lines, as_approved = verify_plugins(home)
    emit(document, as_json=as_json, lines=lines)
    return 0 if as_approved else 1


def list_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The listed plugins as a table."""
    if not rows:
        yield "No plugins are installed."
        return
    cells = [("STATE", "KIND", "NAME", "DISTRIBUTION", "LOCK", "HASH", "ORIGIN")]
    for row in rows:
        what = row["state"], row["kind"], row["name"], f"{row['distribution']} {row['version']}"
        cells.append((*what, row["lock"], row["files_hash"], row["origin"]))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line, reason in zip(cells, ["", *map(_remark, rows)], strict=True):
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        if line[_LOCK] in _WARNED:
            padded[_LOCK] = click.style(padded[_LOCK], fg="red", bold=True)
        yield f"{'  '.join(padded)}  {reason}".rstrip()


def _detail_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    # The details of a plugin, and of its duplicates, as text.
    every = facts, *facts["duplicates"]
    for one in every:
        yield from _details(one)
    if len(every) > 1:
        yield f"{'Both' if len(every) == 2 else 'All of them'} are refused."


def _remark(row: Mapping[str, Any]) -> str:
    # The current fault, else the last crash.
    if row["reason"]:
        seen = f" (seen {row['seen']})" if row["seen"] else ""
        return f"{row['reason']}{seen}"
    return f"last crash {row['last_crash']}" if row["last_crash"] else ""


def _failures_text(facts: Mapping[str, Any]) -> str:
    # Failures of a probe are not counted; the last one is shown.
    text = f"{facts['failures'] or 'none'} in runs"
    last = "last" if facts["failures"] else "last probe"
    return f"{text}; {last}: {facts['last_crash']}" if facts["last_crash"] else text


def _details(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"{facts['kind']} {facts['name']}: {facts['summary'] or facts['reason'] or 'no summary'}"
    yield f"  state         {facts['state']}{': ' if facts['reason'] else ''}{facts['reason']}"
    yield f"  distribution  {facts['distribution']} {facts['version']}"
    yield f"  origin        {facts['origin']}"
    claim = f"{facts['publisher']}, by its own claim" if facts["publisher"] else "not stated"
    yield f"  publisher     {claim}; attestation unknown, since installers do not keep it"
    yield f"  runs          {_ISOLATION[facts['isolation']]}"
    yield f"  failures      {_failures_text(facts)}"
    yield f"  hash          {facts['files_hash'] or 'unreadable'}"
    needs = PluginNeeds.of(facts["needs"]).sentence(facts["name"]) if facts["needs"] else "not recorded"
    yield f"  needs         {needs}"
    yield f"  requires      {', '.join(facts['requires']) or 'nothing of tbot-core'}"
    yield from _capabilities(facts["capabilities"])
    for it in facts["settings"]:
        yield f"  {it['name']}={it['default']}"
        yield f"      {it['doc']} Allowed: {it['allowed']}."


def _capabilities(declared: Mapping[str, str] | Sequence[str]) -> Iterator[str]:
    # A broker's capabilities, one a line; the words of another plugin in one line.
    if isinstance(declared, Mapping):
        width = max(map(len, declared), default=0)
        yield from ("  capabilities", *(f"      {name:<{width}}  {value}" for name, value in declared.items()))
    elif declared:
        yield f"  capabilities  {', '.join(declared)}"
