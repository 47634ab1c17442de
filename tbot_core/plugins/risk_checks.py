"""Risk checks of plugins: they can only deny, and a failure of a check denies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.errors import PluginError
from tbot_core.plugins.failure import PluginFailure
from tbot_core.system.foreign_exceptions import assert_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.contracts import RiskCheck
    from tbot_core.model.types import Order
    from tbot_core.plugins.call_guard import CallGuard
    from tbot_core.plugins.discovery import EntryPointInfo
    from tbot_core.plugins.loader import LoadedPlugin, PluginLoader

_REMEDY = "Fix or uninstall the plugin, or remove it from the settings."


def risk_checks(
    loader: PluginLoader, loaded: Sequence[LoadedPlugin], guard: CallGuard
) -> tuple[tuple[tuple[str, RiskCheck], ...], tuple[PluginFailure, ...]]:
    """The (plugin name, check) pairs of all loaded plugins in order, and failures.

    A check that raises, takes too long, or returns anything but None or a sentence fails with PluginError, and the
    order is denied. A disabled check is not called again, and denies.
    """
    checks, failures, seen = [], [], set()
    for it in loaded:
        if id(it.subject) in seen:
            continue
        seen.add(id(it.subject))
        try:
            answers = loader.call_hook(it.subject, "tbot_risk_checks")
            functions = [_function(answer) for answer in answers]
        except BaseException as fault:  # noqa: BLE001  -- the border of plugin load
            assert_failure(fault)
            failures.append(PluginFailure.of(it.entry, "risk_checks", fault))
        else:
            checks += [(it.entry.name, _guarded(it.entry, check, guard)) for check in functions]
    return tuple(checks), tuple(failures)


def _function(answer: object) -> RiskCheck:
    if not callable(answer):
        raise PluginError("tbot_risk_checks returned no function.", "Return a function of one Order.")
    return answer


def _guarded(entry: EntryPointInfo, check: RiskCheck, guard: CallGuard) -> RiskCheck:
    def guarded(order: Order) -> str | None:
        return guard.call(entry, "check", lambda: _answer(check(order)))

    return guarded


def _answer(answer: object) -> str | None:
    if answer is None or (isinstance(answer, str) and answer.strip()):
        return answer
    raise PluginError(f"It returned {type(answer).__name__}, neither None nor a sentence.", _REMEDY)
