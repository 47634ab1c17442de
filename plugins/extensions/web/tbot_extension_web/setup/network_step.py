"""Where the page listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.contracts.credentials import secret_fields
from tbot_core.errors import TbotError
from tbot_core.instance.preflight import certificate_findings
from tbot_core.instance.secret_schemas import NetworkConfig
from tbot_core.model.clock import SystemClock
from tbot_core.system.secret import Secret
from tbot_core.vault.schemas import FieldLocation, fill_schema
from tbot_extension_web.server import LOOPBACK
from tbot_extension_web.setup.fields import FormField
from tbot_extension_web.setup.step import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_extension_web.setup.state import SetUpState
    from tbot_extension_web.setup.step import Fault, Values


_LABELS: Final = {"public": "Reachable from other machines"}


def _fields(state: SetUpState) -> tuple[FormField, ...]:
    stored = state.section("network", "")
    return tuple(
        FormField(
            name=name,
            label=_LABELS.get(name, name.replace("_", " ").capitalize()),
            doc=one.doc,
            kind=one.kind,
            default=one.default_text,
            value=stored.get(name, ""),
        )
        for name, one in secret_fields(NetworkConfig).items()
    )


def _keep(state: SetUpState, values: Values) -> SetUpState:
    usual = {name: one.default_text for name, one in secret_fields(NetworkConfig).items()}
    return state.with_section("network", "", {name: text for name, text in values.items() if text != usual[name]})


def _faults(state: SetUpState, values: Values) -> Iterator[Fault]:
    # What a start of the page would refuse.
    given = {name: Secret(text) for name, text in values.items()}
    try:
        network = fill_schema(NetworkConfig, given, FieldLocation("network", "the form", ""))
    except TbotError as fault:
        yield "", fault.message
        return
    for finding in certificate_findings(state.setup.instance, network, SystemClock().now()):
        if finding.level == "fail":
            yield "certificate", finding.message
    if network.host not in LOOPBACK and not network.public:
        yield "public", f"Other machines would reach {network.host}: choose true if you want that."


NETWORK: Final = Step(
    name="network",
    title="Network",
    intro="Where this page listens from its next start on. 127.0.0.1 is this machine alone; that suits a tunnel by ssh "
    "too. An address that other machines reach needs a certificate, and one-time codes for every login: the page stays "
    "on this machine until an admin has turned them on.",
    fields=_fields,
    keep=_keep,
    faults=lambda state, values: tuple(_faults(state, values)),
)
