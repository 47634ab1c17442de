"""Plugins: what is installed, what is in use, what each may do, and the approval of those in use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tbot_core.actions.operator_requests import armed_with_other_plugins
from tbot_core.actions.plugins import approve_lock, describe_plugin, list_plugins, propose_lock, verify_plugins
from tbot_core.contracts.permissions import PluginNeeds
from tbot_core.errors import PluginError, TbotError
from tbot_core.instance import Instance, read_settings_files
from tbot_core.plugins.distributions import startup_files
from tbot_core.vault.categories import PAGE
from tbot_extension_web.posts import Question

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.responses import Response

    from tbot_core.actions.plugins import LockProposal
    from tbot_extension_web.call import Call

_OTHERS: Final = "The plugins are not those that were shown: nothing was approved."
_ARM: Final = "Live trading was armed with other plugins: arm it again under Risk."
_MOST_NAMED: Final = 8


async def show(call: Call) -> Response:
    """Every installed plugin with its state, the state of the lock, and for an admin what an approval would pin."""
    values = await call.compute(_listed, call.site.home)
    proposal, fault = await _proposed(call) if call.may("configure") else (None, "")
    return call.page("plugins.html", **values, proposal=proposal, unproposed=fault)


async def question(call: Call) -> Question:
    """What would be pinned, and what differs from what is."""
    proposal = await _proposal(call)
    pinned = [line for row in proposal.rows for line in (row["sentence"], *_documents(row["changes"]))]
    others = [f"Not compared, though Python reads them at each start: {', '.join(startup_files()) or 'no file'}."]
    return Question(
        title="Approve these plugins?",
        text="A plugin has the rights of the bot. Live trading imports these, with exactly these files, and no others.",
        button="Approve these plugins",
        back="/plugins",
        facts=(*proposal.warnings, *pinned, *others),
        fields={"plugins": proposal.digest},
    )


async def approve(call: Call) -> Response:
    """Pin the plugins, if they are those of the question; the audit log names who approved, before it is done."""
    proposal = await _proposal(call)
    if call.form.get("plugins", "") != proposal.digest:
        raise PluginError(_OTHERS, "Open the list again, read it, then approve it.")
    record = call.site.logins.security.record
    confirm = partial(record, "write", call.user.user, _approval(proposal), category=PAGE)
    await call.work(approve_lock, proposal, confirm)
    anew = [_ARM] if await call.work(armed_with_other_plugins, call.site.home) else []
    return call.to("/plugins", proposal.result, *anew)


def _approval(proposal: LockProposal) -> str:
    # For the audit log.
    changed = list(dict.fromkeys(f"{change.kind}/{change.name}" for change in proposal.changes))
    more = f" and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
    return f"approved {len(proposal.proposed.plugins)} plugins, changed: {', '.join(changed[:_MOST_NAMED])}{more}"


async def _proposal(call: Call) -> LockProposal:
    return await call.compute(propose_lock, call.site.home, call.actor, recording=True)


async def _proposed(call: Call) -> tuple[LockProposal | None, str]:
    try:
        return await _proposal(call), ""
    except TbotError as fault:
        return None, f"{fault}"


async def show_one(call: Call) -> Response:
    """A plugin with its capabilities and settings; one that was never tried is tried in a process of its own."""
    place = call.request.path_params
    found = await call.compute(_described, call.site.home, f"{place['kind']}/{place['name']}")
    every: list[Any] = [found, *_documents(found["duplicates"])]
    return call.page("plugin.html", every=[{**one, **_readable(one)} for one in every])


def _listed(home: Path) -> dict[str, Any]:
    rows, warnings = list_plugins(home, settings=_settings(home))
    try:
        document, lines, as_approved = verify_plugins(home)
    except TbotError as fault:
        document, lines, as_approved = {"differences": [], "startup_files": []}, [fault.message], False
    files = _documents(document["startup_files"])
    count = len(_documents(document["differences"])) or 1
    approval = {"lines": lines[:count], "files": files, "as_approved": as_approved}
    return {"rows": rows, "warnings": warnings, "approval": approval}


def _described(home: Path, name: str) -> dict[str, object]:
    return describe_plugin(name, home, settings=_settings(home))


def _settings(home: Path) -> Mapping[str, str] | None:
    # The texts of the settings, also of encrypted ones; None where they cannot be read, and the list says so.
    try:
        return read_settings_files(Instance.at(home)).known_texts()
    except TbotError:
        return None


def _documents(found: object) -> list[Any]:
    return list(found) if isinstance(found, list) else []


def _readable(one: Mapping[str, Any]) -> dict[str, Any]:
    # What it needs as a sentence, and a broker's capabilities as pairs, those of others as words.
    declared = one["capabilities"]
    return {
        "needs_words": PluginNeeds.of(one["needs"]).sentence(one["name"]) if one["needs"] else "not recorded",
        "matrix": list(declared.items()) if isinstance(declared, Mapping) else [],
        "words": [] if isinstance(declared, Mapping) else list(declared),
    }
