"""What an instance will be, before it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbot_core.actions.assembly import SIMULATED, is_rehearsed
from tbot_core.actions.plugins import plugins_in_use
from tbot_core.instance.enabled_plugins import split_names
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.instance.identity import FIELD
from tbot_core.vault.categories import CATEGORIES
from tbot_extension_web.server import LOOPBACK
from tbot_extension_web.setup.begin_steps import left_open
from tbot_extension_web.setup.steps import faults_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tbot_extension_web.setup.state import SetUpState


def summary(state: SetUpState) -> dict[str, Any]:
    """The values of the summary: rows of name and text, faults, what is left for later, the plugins in use.

    `live`: whether real money is traded.
    """
    mode = account_mode(state)
    return {
        "rows": tuple(_rows(state, mode)),
        "faults": faults_of(state),
        "missing": [one for several in left_open(state).values() for one in several],
        "live": mode == "live",
        "used": plugins_in_use(state.sources.texts()),
    }


def account_mode(state: SetUpState) -> str:
    """The account that the broker's credentials name: paper, live, or simulated for a broker without accounts."""
    broker = state.texts.get("BROKER_NAME", SIMULATED)
    if broker.upper() == SIMULATED:
        return "simulated"
    return state.section("broker", broker.lower()).get("mode", "") or "paper"


def _rows(state: SetUpState, mode: str) -> Iterator[tuple[str, str]]:
    texts, draft = state.texts, state.draft
    yield "Folder", str(state.setup.instance.home)
    yield "Identity", state.section("bot_identity", "").get(FIELD, "proposed when the instance is made")
    yield "Broker", texts.get("BROKER_NAME", SIMULATED).lower()
    invented = "simulated on this machine, with invented companies and prices"
    yield "Account", {"live": "LIVE: real money", "simulated": invented}.get(mode, "paper")
    entered = [f"{category}: {', '.join(_fields(category, part))}" for category, part in draft.answers.items()]
    shown = [one for one in entered if not one.startswith(("bot_identity", "network", "env:"))]
    yield "Secrets", "; ".join(shown) or "none"
    if is_rehearsed():
        yield "Rehearsal", f"{REHEARSAL_VARIABLE} is set: what is tested here is tested at its servers"
    if mode != "simulated":
        yield "Login", draft.notes.get("credentials", "not tested")
    yield "Alerts", f"critical by {_channels(texts, 'CRITICAL')}; routine by {_channels(texts, 'ROUTINE')}"
    taken = [f"{', '.join(f'.{name}' for name in draft.files)} as taken over"] if draft.files else []
    changed = {**draft.answers.get("env", {}), **draft.settings}
    yield "Settings", ", ".join([*taken, *(f"{key}={value}" for key, value in changed.items())]) or "as usual"
    yield "Page", _page(state)


def _channels(texts: Mapping[str, str], urgency: str) -> str:
    return ", ".join(split_names(texts.get(f"{urgency}_ALERT_CHANNEL") or "console"))


def _page(state: SetUpState) -> str:
    network = state.section("network", "")
    host, port = network.get("host", "127.0.0.1"), network.get("port", "8443")
    if host in LOOPBACK:
        return f"{host}:{port}, for this machine"
    return f"{host}:{port} from its next start on, once you have turned on one-time codes"


def _fields(category: str, part: dict[str, Any]) -> list[str]:
    # The names of the fields that have a value, never a value.
    if not CATEGORIES[category].by_plugin:
        return list(part)
    return [f"{plugin} {', '.join(section)}" for plugin, section in part.items()]
