"""The plugins as text: the list as a table, and the details of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from tbot_core.contracts.permissions import PluginNeeds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LOCK = 4
_ISOLATION = {
    "worker": "in a worker process of its own",
    "in process": "in the process of the bot, with its full rights",
}
_WARNED = frozenset({"CHANGED", "UNLISTED", "UNKNOWN"})


def list_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The listed plugins as a table."""
    if not rows:
        yield "No plugins are installed."
        return
    cells = [("STATE", "KIND", "NAME", "DISTRIBUTION", "LOCK", "HASH", "ORIGIN")]
    for it in rows:
        what = it["state"], it["kind"], it["name"], f"{it['distribution']} {it['version']}"
        cells.append((*what, it["lock"], it["files_hash"], it["origin"]))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line, reason in zip(cells, ["", *map(_remark, rows)], strict=True):
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        if line[_LOCK] in _WARNED:
            padded[_LOCK] = click.style(padded[_LOCK], fg="red", bold=True)
        yield f"{'  '.join(padded)}  {reason}".rstrip()


def _remark(row: Mapping[str, Any]) -> str:
    # The current fault, else the last crash.
    if row["reason"]:
        seen = f" (seen {row['seen']})" if row["seen"] else ""
        return f"{row['reason']}{seen}"
    return f"last crash {row['last_crash']}" if row["last_crash"] else ""


def detail_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The details of a plugin, and of its duplicates, as text."""
    every = facts, *facts["duplicates"]
    for one in every:
        yield from _details(one)
    if len(every) > 1:
        yield f"{'Both' if len(every) == 2 else 'All of them'} are refused."


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
