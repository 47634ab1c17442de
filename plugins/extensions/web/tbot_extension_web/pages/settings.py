"""The settings: shown in groups, changed one group at a time, with the effect of a change before it is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import attrs
from starlette.exceptions import HTTPException

from tbot_core.actions.config import encrypt_config
from tbot_core.actions.settings_edit import (
    SettingsPlan,
    SettingsView,
    choices_of,
    is_editable,
    plan_settings,
    settings_view,
    takes_effect,
)
from tbot_core.errors import TbotError
from tbot_core.instance import Instance
from tbot_core.instance.registry import EffectiveSetting
from tbot_core.instance.report import NOT_ACTED_ON
from tbot_core.system import filesystem
from tbot_extension_web.pages.step_up import password_refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.responses import Response

    from tbot_core.actions.config import SettingChange
    from tbot_core.instance.registry import SettingGroup
    from tbot_extension_web.call import Call

FIELD: Final = "set."
"""What the names of fields for settings begin with; other fields are never read as settings."""

MOST_FOUND: Final = 60
CHANGED: Final = "The settings were changed since the form was opened; nothing was saved."


@attrs.frozen(kw_only=True)
class Row:
    """A setting in the form: `text` is what its field shows, `fault` why that is not allowed.

    `needs` says which plugin has to be installed first.
    """

    setting: EffectiveSetting
    text: str
    choices: tuple[str, ...]
    editable: bool
    fault: str = ""
    needs: str = ""

    @property
    def name(self) -> str:
        """Its name."""
        return self.setting.declaration.name

    @property
    def note(self) -> str:
        """What else a person should know."""
        idle = "" if self.setting.declaration.acted_on else f"{NOT_ACTED_ON.capitalize()}."
        return " ".join(filter(None, (self.needs, idle)))


async def show(call: Call) -> Response:
    """The groups, or the settings that a search finds."""
    query = call.request.query_params.get("q", "").strip()[:80]
    view = await call.work(settings_view, call.site.home)
    if not query:
        return call.page("settings.html", view=view, query="", counts=_changed(view))
    found = _found(view, query)
    return _form(call, view, None, found[:MOST_FOUND], query=query, more=len(found) > MOST_FOUND)


async def show_group(call: Call) -> Response:
    """One group."""
    view = await call.work(settings_view, call.site.home)
    group = _group(view, call.request.path_params["group"])
    told = call.request.query_params.get("saved", "").split(",")
    return _form(call, view, group, group.variables, saved=[name for name in told if name in view.values])


async def review(call: Call) -> Response:
    """What the changes of a form would do; nothing is saved."""
    view = await call.work(settings_view, call.site.home)
    wanted, group = _wanted(call, view), _group_of(call, view)
    plan = await call.work(plan_settings, call.site.home, wanted)
    if call.form.get("version", plan.version) != plan.version:
        return _outdated(call, group)
    if call.form.get("edit") == "yes":
        return _form(call, view, group, group.variables if group else tuple(wanted), texts=wanted)
    if plan.faults:
        return _form(call, view, _group_of(call, view), tuple(wanted), texts=wanted, faults=plan.faults)
    return await _review(call, view, wanted, plan)


async def save(call: Call) -> Response:
    """Save what was reviewed, unless the files changed since; what permits more needs the password again."""
    view = await call.work(settings_view, call.site.home)
    wanted = _wanted(call, view)
    plan = await call.work(plan_settings, call.site.home, wanted, call.actor)
    if plan.faults:
        return _form(call, view, _group_of(call, view), tuple(wanted), texts=wanted, faults=plan.faults)
    if call.form.get("version", "") != plan.version:
        return _outdated(call, _group_of(call, view))
    if plan.guarded and (refused := await password_refusal(call)):
        return await _review(call, view, wanted, plan, refused=refused)
    return await _saved(call, plan, _group_of(call, view) or _group_with(view, plan))


def _outdated(call: Call, group: SettingGroup | None) -> Response:
    back = f"/settings/{group.name}" if group else "/settings"
    return call.page("message.html", 400, title="Not saved", text=CHANGED, remedy="Open the settings again.", back=back)


async def _saved(call: Call, plan: SettingsPlan, group: SettingGroup | None) -> Response:
    try:
        await call.work(plan.save, call.form.get("version", ""), password=bool(plan.guarded))
    except TbotError as fault:
        return call.page("message.html", 400, title="Not saved", text=fault.message, remedy=fault.remedy)
    names = ",".join(change.name for change in plan.changes)
    return call.to(f"/settings/{group.name if group else 'general'}?saved={quote(names)}")


async def encrypt(call: Call) -> Response:
    """Encrypt the settings files that are plaintext, so that they can be changed here."""
    await call.work(encrypt_config, call.site.home)
    return call.to("/settings")


def _found(view: SettingsView, query: str) -> list[str]:
    # Each word is in the name, an alias or the explanation; those with it in the name come first.
    words = query.casefold().split()

    def text(name: str) -> str:
        declaration = view.values[name].declaration
        return " ".join((name, *declaration.aliases, declaration.doc)).casefold()

    found = [name for name in view.values if all(word in text(name) for word in words)]
    return sorted(found, key=lambda name: not all(word in name.casefold() for word in words))


def _changed(view: SettingsView) -> Mapping[str, int]:
    # How many settings of each group differ from their defaults.
    def differs(one: EffectiveSetting) -> bool:
        return one.text != one.declaration.default_text

    return {group.name: sum(differs(view.values[name]) for name in group.variables) for group in view.groups}


def _group(view: SettingsView, name: str) -> SettingGroup:
    found = next((group for group in view.groups if group.name == name), None)
    if found is None:
        raise HTTPException(404)
    return found


def _group_of(call: Call, view: SettingsView) -> SettingGroup | None:
    return next((group for group in view.groups if group.name == call.form.get("group", "")), None)


def _group_with(view: SettingsView, plan: SettingsPlan) -> SettingGroup | None:
    # The group of what a search has changed.
    names = {change.name for change in plan.changes}
    return next((group for group in view.groups if not names.isdisjoint(group.variables)), None)


def _wanted(call: Call, view: SettingsView) -> dict[str, str]:
    # Only known settings are read from a form.
    return {name: call.form[FIELD + name] for name in view.values if FIELD + name in call.form}


def _form(  # noqa: PLR0913  -- what the form shows
    call: Call,
    view: SettingsView,
    group: SettingGroup | None,
    names: Iterable[str],
    *,
    texts: Mapping[str, str] | None = None,
    faults: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    given, wrong = texts or {}, faults or {}
    rows = [
        Row(
            setting=view.values[name],
            text=given.get(name, view.values[name].text),
            choices=choices_of(view.values[name]),
            editable=is_editable(view.values[name]),
            fault=wrong.get(name, ""),
            needs=view.needs.get(name, ""),
        )
        for name in names
    ]
    shown = {"query": "", "more": False, "saved": [], "fault": wrong.get("", ""), "faults": len(wrong), **more}
    can_edit = call.may("configure") and not view.fixed and any(row.editable for row in rows)
    status = 400 if wrong else 200
    return call.page("settings_form.html", status, view=view, group=group, rows=rows, can_edit=can_edit, **shown)


async def _review(
    call: Call, view: SettingsView, wanted: Mapping[str, str], plan: SettingsPlan, refused: str = ""
) -> Response:
    instance = Instance.at(call.site.home)
    running = await call.work(filesystem.lock_holder, instance.lock, instance.home) is not None
    status = (await call.site.live.snapshot()).status
    in_session = bool(status.get("in_session"))

    def when(change: SettingChange) -> str:
        return takes_effect(view.values[change.name], running=running, in_session=in_session)

    kept = {name: wanted[name] for name in wanted if any(one.name == name for one in plan.changes)}
    return call.page(
        "settings_review.html",
        401 if refused else 200,
        plan=plan,
        rows=[(one, when(one), plan.guarded.get(one.name, "")) for one in plan.changes],
        wanted=kept,
        group=_group_of(call, view),
        version=call.form.get("version", ""),
        live=(status.get("mode") or "").lower() == "live",
        refused=refused,
    )
