"""The tests of a set-up: a login at the broker, and a message by each alert channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.actions.assembly import SIMULATED, is_rehearsed
from tbot_core.actions.trials import try_channel, try_login
from tbot_core.contracts.permissions import host_setting_name
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.instance.identity import FIELD
from tbot_core.journal.projections.failover import DrillStep

if TYPE_CHECKING:
    from tbot_extension_web.setup.state import SetUpState

_LIVE: Final = "live"


def try_broker(state: SetUpState) -> DrillStep:
    """Log in at the broker with the stored credentials, and log out; no order is sent."""
    texts = state.texts
    name = texts.get("BROKER_NAME", SIMULATED).lower()
    loaded = next(
        (plugin for plugin in state.enabled if (plugin.entry.kind, plugin.entry.name) == ("broker", name)), None
    )
    if loaded is None:
        return DrillStep(what=name, passed=False, words=f"The broker {name} is not installed: it cannot be tried.")
    credentials = state.section("broker", name)
    step = try_login(loaded, state.draft.settings, credentials, live=credentials.get("mode") == _LIVE)
    if step is not None:
        return attrs.evolve(step, words=f"{step.words.rstrip('.')}.{_where()}")
    return DrillStep(what=name, passed=True, words="It is a simulation: there is no login.")


def _where() -> str:
    return f" REHEARSAL ({REHEARSAL_VARIABLE}): that was its server on this machine." if is_rehearsed() else ""


def try_channels(state: SetUpState) -> DrillStep:
    """Send a test message by each channel of the answers that has secrets."""
    identity = state.section("bot_identity", "").get(FIELD, "")
    answers = []
    for loaded in (
        plugin for plugin in state.enabled if plugin.entry.kind == "alert" and any(plugin.declared.secrets.values())
    ):
        given = {category: state.section(category, loaded.entry.name) for category in loaded.declared.secrets}
        hosts = (host_setting_name(loaded.entry.name, host) for host in loaded.declared.hosts)
        chosen = {name: text for name in hosts if (text := state.texts.get(name))}
        answers.append(try_channel(loaded, given, identity, chosen))
    words = "".join(f"{answer.what}: {answer.words.rstrip('.')}. " for answer in answers).rstrip() + _where()
    return DrillStep(
        what="alerts",
        passed=bool(answers) and all(answer.passed for answer in answers),
        words=words if answers else "No channel with a login is installed: none can be tried.",
    )
