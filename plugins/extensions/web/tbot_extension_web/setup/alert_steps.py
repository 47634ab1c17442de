"""Who is alerted, by which channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tbot_core.contracts.setting import boolean
from tbot_core.instance.enabled_plugins import split_names
from tbot_extension_web.setup.fields import FormField
from tbot_extension_web.setup.state import offered
from tbot_extension_web.setup.step import Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tbot_extension_web.setup.state import SetUpState
    from tbot_extension_web.setup.step import Fault, Values

_SETTINGS: Final = {"critical": "CRITICAL_ALERT_CHANNEL", "routine": "ROUTINE_ALERT_CHANNEL"}
_CONSOLE: Final = "console"


def _fields(state: SetUpState) -> tuple[FormField, ...]:
    texts, installed = state.texts, offered("alert").installed
    return tuple(
        FormField(
            name=f"{urgency}.{name}",
            label=f"{urgency} alerts by {name}",
            doc="",
            kind=boolean(),
            default="false",
            value=str(name in split_names(texts.get(variable) or _CONSOLE)).lower(),
        )
        for name in installed
        for urgency, variable in _SETTINGS.items()
    )


def _keep(state: SetUpState, values: Values) -> SetUpState:
    for urgency, variable in _SETTINGS.items():
        named = split_names(state.texts.get(variable) or _CONSOLE)
        chosen = _chosen(values, urgency)
        # A channel that is named and not installed stays: the check names what to install.
        names = [*(name for name in named if name in chosen or name not in offered("alert").installed), *chosen]
        names = list(dict.fromkeys(names))
        if names != list(named):
            state = state.with_setting(variable, ",".join(names))
    return state


def _faults(_state: SetUpState, values: Values) -> Iterator[Fault]:
    for urgency in _SETTINGS:
        if not _chosen(values, urgency):
            yield "", f"Choose at least one channel for {urgency} alerts."


def _shows(state: SetUpState) -> Mapping[str, Any]:
    offer = offered("alert")
    fields = {field.name: field for field in _fields(state)}
    rows = [
        (name, one.plugin.summary, [fields[f"{urgency}.{name}"] for urgency in _SETTINGS])
        for name, one in offer.installed.items()
    ]
    return {"rows": rows, "absent": offer.absent, "failures": offer.failures}


def _chosen(values: Values, urgency: str) -> list[str]:
    named = (name.partition(".") for name, text in values.items() if text == "true")
    return [name for place, _, name in named if place == urgency]


CHANNELS: Final = Step(
    name="alerts",
    title="Alerts",
    intro="How the bot reports to you: what needs you at once (critical), and fills, exits and days (routine).",
    fields=_fields,
    keep=_keep,
    faults=lambda state, values: tuple(_faults(state, values)),
    shows=_shows,
    template="setup/alerts.html",
)
