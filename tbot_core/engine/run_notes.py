"""What a run tells people at its start: absent plugins, checks that are off, assumptions, a missing identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.instance.findings import SIMULATED_MODES, TRIAL, printable_value
from tbot_core.instance.plugin_settings import off_by_filters

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_core.instance import Settings
    from tbot_core.plugins.failure import PluginFailure

_NAMELESS: Final = (
    "The bot has no identity, so its client order ids contain no identity: `tbot secrets set bot_identity` sets it."
)
_SHORTABLE: Final = "Simulated short sales: every symbol is assumed to be shortable and easy to borrow."


def run_notes(
    settings: Settings, identity: str, failures: Iterable[PluginFailure], warnings: Iterable[str]
) -> tuple[str, ...]:
    """The notes of a run, with these warnings; a demo needs no identity."""
    assumed = shortable_notes(settings) if settings.mode in SIMULATED_MODES else ()
    absent = (f"Not applied: {one.kind} {one.name} ({one.error})" for one in failures)
    nameless = not identity and settings.mode != "demo"
    off = off_by_filters(settings.filters_off)
    return (*absent, *((off,) if off else ()), *warnings, *assumed, *((_NAMELESS,) if nameless else ()))


def trial_notes(settings: Settings) -> tuple[str, ...]:
    """The settings that `--set` changed for this run, in one sentence for the label of its bars; none without any."""
    tried = [f"{name}={printable_value(one.text)}" for name, one in settings.values.items() if one.origin == TRIAL]
    return (f"Set for this run: {', '.join(sorted(tried))}.",) if tried else ()


def shortable_notes(settings: Settings) -> tuple[str, ...]:
    """What a simulation assumes about short sales, if a strategy makes any."""
    sells_short = any(settings.frames[name].short_type.lower() == "shortsell" for name in settings.strategies)
    return (_SHORTABLE,) if sells_short else ()
