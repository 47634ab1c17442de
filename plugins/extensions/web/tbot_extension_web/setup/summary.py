"""What an instance will be, before it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbot_core.actions.assembly import SIMULATED
from tbot_core.instance.identity import FIELD
from tbot_core.vault.categories import CATEGORIES
from tbot_extension_web.setup.steps import faults_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_extension_web.setup.state import SetUpState


def summary(state: SetUpState) -> dict[str, Any]:
    """The values of the summary: rows of name and text, the faults, and whether real money is traded."""
    mode = account_mode(state)
    return {"rows": tuple(_rows(state, mode)), "faults": faults_of(state), "live": mode == "live"}


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
    yield "Account", {"live": "LIVE: real money", "simulated": "simulated on this machine"}.get(mode, "paper")
    entered = [f"{category}: {', '.join(_fields(category, part))}" for category, part in draft.answers.items()]
    yield "Secrets", "; ".join(one for one in entered if not one.startswith("bot_identity")) or "none"
    if mode != "simulated":
        yield "Login", draft.notes.get("credentials", "not tested")
    yield "Settings", ", ".join(f"{key}={value}" for key, value in draft.settings.items()) or "as usual"


def _fields(category: str, part: dict[str, Any]) -> list[str]:
    # The names of the fields that have a value, never a value.
    if not CATEGORIES[category].by_plugin:
        return list(part)
    return [f"{plugin} {', '.join(section)}" for plugin, section in part.items()]
