"""The steps of the set-up in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.actions.assembly import SIMULATED
from tbot_core.contracts.setting import boolean, choice, text
from tbot_core.errors import TbotError
from tbot_core.instance.enabled_plugins import plugins_enabled
from tbot_core.instance.identity import ALLOWED, FIELD, PATTERN, Identity
from tbot_core.instance.plugin_settings import filter_switches, known_plugins
from tbot_core.system import random
from tbot_extension_web.setup import alert_steps, begin_steps, network_step, setting_steps
from tbot_extension_web.setup.fields import FormField, Option
from tbot_extension_web.setup.secret_fields import fallback_faults, plugin_fields, secrets_of, with_plugin_fields
from tbot_extension_web.setup.state import offered
from tbot_extension_web.setup.step import Step
from tbot_extension_web.setup.trials import try_broker, try_channels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tbot_extension_web.setup.state import SetUpState
    from tbot_extension_web.setup.step import Values

_BOT: Final = 4
_NO_BOT: Final = "B01"


def _identity(state: SetUpState) -> tuple[FormField, ...]:
    stored = state.section("bot_identity", "").get(FIELD, "")
    broker = state.texts.get("BROKER_NAME", SIMULATED)
    field = FormField(
        name="identity",
        label="Identity",
        doc="Four parts, joined by underscores: the entity that owns the account, its jurisdiction, the broker, and an "
        "id of this bot. An example: ACME_US_PAPER_B01.",
        kind=text(pattern=PATTERN.pattern, allowed=ALLOWED),
        value=stored or Identity.proposed(broker, random.token(_BOT)).text,
    )
    return (field,)


def _keep_identity(state: SetUpState, values: Values) -> SetUpState:
    return state.with_section("bot_identity", "", {FIELD: values["identity"]})


def _broker(state: SetUpState) -> tuple[FormField, ...]:
    found = offered("broker").installed
    chosen = state.texts.get("BROKER_NAME", SIMULATED).lower()
    field = FormField(
        name="broker",
        label="Broker",
        doc="The broker holds the account and receives the orders. paper is a simulated market on this machine, of "
        "invented companies and prices, and needs no account. For real prices with paper money choose a broker where "
        "you have a paper account.",
        kind=choice(*found),
        value=chosen if chosen in found else next(iter(found), ""),
        options=tuple(Option(value=name, text=one.plugin.summary) for name, one in found.items()),
    )
    return (field,)


def _keep_broker(state: SetUpState, values: Values) -> SetUpState:
    name = values["broker"].upper()
    before = state.texts.get("BROKER_NAME", SIMULATED)
    if name == before.upper():
        return state
    return _named_after(state.with_setting("BROKER_NAME", name).noted("credentials", ""), before, name)


def _named_after(state: SetUpState, before: str, broker: str) -> SetUpState:
    # The identity, which is asked for first, names the broker: where it named the one before, it names this one.
    match = PATTERN.fullmatch(state.section("bot_identity", "").get(FIELD, ""))
    identity = None if match is None else Identity.parse(match[0])
    if identity is None or identity.broker != Identity.proposed(before, _NO_BOT).broker:
        return state
    changed = attrs.evolve(identity, broker=Identity.proposed(broker, _NO_BOT).broker)
    return state.with_section("bot_identity", "", {FIELD: changed.text})


def _absent(kind: str) -> Callable[[SetUpState], Mapping[str, Any]]:
    def shows(_state: SetUpState) -> Mapping[str, Any]:
        offer = offered(kind)
        return {"absent": offer.absent, "failures": offer.failures}

    return shows


def _screeners(state: SetUpState) -> tuple[FormField, ...]:
    # The filters that read secrets, each with its switch.
    found = offered("filter").installed
    switches = filter_switches()
    return tuple(
        FormField(
            name=f"use.{name}",
            label=name,
            doc=f"{one.plugin.summary}. Needs an account of its own.",
            kind=boolean(),
            default="false",
            value=str(("filter", name) in plugins_enabled(state.texts)).lower(),
        )
        for name, one in found.items()
        if name in switches and any(one.declared.secrets.values())
    )


def _keep_screeners(state: SetUpState, values: Values) -> SetUpState:
    enabled = plugins_enabled(state.texts)
    for name, keys in filter_switches().items():
        wanted = values.get(f"use.{name}", "")
        if wanted and (wanted == "true") is not (("filter", name) in enabled):
            state = state.with_setting(keys[0], wanted)
    return state


def _absent_screeners(_state: SetUpState) -> Mapping[str, Any]:
    offer = offered("filter")
    reading = {plugin.name for plugin in known_plugins() if plugin.kind == "filter" and plugin.secrets}
    return {"absent": {name: it for name, it in offer.absent.items() if name in reading}, "failures": offer.failures}


def _is_accounting(_kind: str, category: str) -> bool:
    return category == "acct_api"


def _absent_accounting(_state: SetUpState) -> Mapping[str, Any]:
    offer = offered("extension")
    reading = {plugin.name for plugin in known_plugins() if plugin.kind == "extension" and "acct_api" in plugin.secrets}
    return {"absent": {name: it for name, it in offer.absent.items() if name in reading}, "failures": ()}


def _secrets_step(wanted: Callable[[str, str], bool], **traits: Any) -> Step:
    return Step(
        fields=lambda state: plugin_fields(state, wanted),
        keep=lambda state, values: with_plugin_fields(state, values, wanted),
        faults=lambda state, values: tuple(fallback_faults(state, values, wanted)),
        answers=lambda state: [state.section(secret.category, secret.plugin) for secret in secrets_of(state, wanted)],
        later=True,
        **{"needed": lambda state: bool(plugin_fields(state, wanted)), **traits},
    )


STEPS: Final = (
    begin_steps.BEGIN,
    begin_steps.TAKEN,
    Step(
        name="identity",
        title="Identity",
        intro="The bot's name in its ledger, its alerts and the ids of its orders. Two bots at one account need two "
        "identities.",
        fields=_identity,
        keep=_keep_identity,
    ),
    network_step.NETWORK,
    Step(
        name="broker",
        title="Broker",
        intro="Where orders are sent. An identity that names the broker chosen before will name this one.",
        fields=_broker,
        keep=_keep_broker,
        shows=_absent("broker"),
    ),
    _secrets_step(
        lambda kind, _category: kind == "broker",
        name="credentials",
        title="Broker login",
        intro="The credentials of your account. They are stored encrypted, and never shown again.",
        test=try_broker,
        test_label="Test the login",
    ),
    alert_steps.CHANNELS,
    _secrets_step(
        lambda kind, _category: kind == "alert",
        name="channels",
        title="Alert logins",
        intro="What the channels need to reach you. It is stored encrypted; what is secret is never shown again.",
        test=try_channels,
        test_label="Send a test message",
    ),
    Step(
        name="screeners",
        title="Screeners",
        intro="Filters that ask a service about a company before an entry. None is needed to trade.",
        fields=_screeners,
        keep=_keep_screeners,
        shows=_absent_screeners,
    ),
    _secrets_step(
        lambda kind, _category: kind == "filter",
        name="screener-logins",
        title="Screener logins",
        intro="The keys of these services. They are stored encrypted, and never shown again.",
    ),
    _secrets_step(
        _is_accounting,
        name="accounting",
        title="Accounting",
        intro="Where the books are sent to, if anywhere. The ledger is kept on this machine in any case.",
        needed=lambda state: bool(plugin_fields(state, _is_accounting) or _absent_accounting(state)["absent"]),
        shows=_absent_accounting,
    ),
    setting_steps.SETTINGS,
)
"""The questions; the summary follows them."""


def needed_steps(state: SetUpState) -> tuple[Step, ...]:
    """The steps that apply with these answers."""
    return tuple(step for step in STEPS if step.needed(state))


def step_named(state: SetUpState, name: str) -> Step | None:
    """A step that applies, or the page of a group of settings; None for another name."""
    return next((step for step in needed_steps(state) if step.name == name), None) or setting_steps.group_step(
        state, name
    )


def faults_of(state: SetUpState) -> tuple[str, ...]:
    """Why no instance can be made of the answers; empty where it can."""
    try:
        state.setup.contents(state.draft)
    except TbotError as fault:
        return tuple(fault.message.splitlines())
    return ()
