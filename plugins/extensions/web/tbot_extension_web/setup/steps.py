"""The steps of the set-up in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tbot_core.actions.assembly import SIMULATED
from tbot_core.contracts.setting import choice, text
from tbot_core.errors import TbotError
from tbot_core.instance.identity import ALLOWED, FIELD, PATTERN, Identity
from tbot_core.system import random
from tbot_extension_web.setup.fields import FormField, Option
from tbot_extension_web.setup.secret_fields import plugin_fields, with_plugin_fields
from tbot_extension_web.setup.state import offered
from tbot_extension_web.setup.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tbot_extension_web.setup.state import SetUpState
    from tbot_extension_web.setup.step import Values

_BOT: Final = 4


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
        doc="The broker holds the account and receives the orders. paper fills orders in a simulation on this machine, "
        "and needs no account.",
        kind=choice(*found),
        value=chosen if chosen in found else next(iter(found), ""),
        options=tuple(Option(value=name, text=one.plugin.summary) for name, one in found.items()),
    )
    return (field,)


def _keep_broker(state: SetUpState, values: Values) -> SetUpState:
    name = values["broker"].upper()
    if name == state.texts.get("BROKER_NAME"):
        return state
    return state.with_settings({"BROKER_NAME": name}).noted("login", "")


def _absent(kind: str) -> Callable[[SetUpState], Mapping[str, Any]]:
    def shows(_state: SetUpState) -> Mapping[str, Any]:
        found = offered(kind)
        return {"absent": found.absent, "failures": found.failures}

    return shows


def _brokers_secret(kind: str, _category: str) -> bool:
    return kind == "broker"


def _secrets_step(wanted: Callable[[str, str], bool], **traits: Any) -> Step:
    return Step(
        fields=lambda state: plugin_fields(state, wanted),
        keep=lambda state, values: with_plugin_fields(state, values, wanted),
        needed=lambda state: bool(plugin_fields(state, wanted)),
        later=True,
        **traits,
    )


STEPS: Final = (
    Step(
        name="identity",
        title="Identity",
        intro="The bot's name in its ledgers and alerts. It enters the ids of orders: two bots at one account need two "
        "identities.",
        fields=_identity,
        keep=_keep_identity,
    ),
    Step(
        name="broker",
        title="Broker",
        intro="Where orders are sent.",
        fields=_broker,
        keep=_keep_broker,
        shows=_absent("broker"),
    ),
    _secrets_step(
        _brokers_secret,
        name="credentials",
        title="Broker login",
        intro="The credentials of your account. They are stored encrypted, and never shown again.",
    ),
)
"""The questions; the summary follows them."""


def needed_steps(state: SetUpState) -> tuple[Step, ...]:
    """The steps that apply with these answers."""
    return tuple(one for one in STEPS if one.needed(state))


def faults_of(state: SetUpState) -> tuple[str, ...]:
    """Why no instance can be made of the answers; empty where it can."""
    try:
        state.setup.contents(state.draft)
    except TbotError as fault:
        return tuple(fault.message.splitlines())
    return ()
