"""The extensions of a run: those of plugins, and the ledger export of the core."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from tbot_core.contracts import Extension
from tbot_core.engine.assembly import DRY_RUN
from tbot_core.errors import TbotError
from tbot_core.extensions.ledger_export import LedgerExport
from tbot_core.extensions.progress import ProgressFile, forget_failures, progress_folder
from tbot_core.extensions.runner import ExtensionRunner, FollowTerms
from tbot_core.instance.findings import SIMULATED_MODES
from tbot_core.system import log
from tbot_core.system.threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path
    from typing import Any

    from tbot_core.engine.run_plan import RunPlan

T = TypeVar("T")
_LEDGER: Final = "ledger"
"""The name of the ledger export among the progress files; those of plugins begin with their kind."""

_LEDGER_FOLDER: Final = "ledger"
"""Its folder, below that of the reports."""

_log = log.logger(__name__)


async def with_extensions(work: Coroutine[Any, Any, T], plan: RunPlan) -> T:
    """Await the work with the run's extensions beside it: in paper and live trading, and in a rehearsal.

    Extensions neither end nor fail the run: at its end they have some seconds for what was recorded last.
    """
    assembly = plan.assembly
    if assembly.settings.mode in {*SIMULATED_MODES, DRY_RUN}:
        return await work
    asyncio.get_running_loop().set_default_executor(DaemonThreads())
    instance = assembly.settings.instance
    journal = instance.runs / f"{plan.rehearsal}.sqlite" if plan.rehearsal else instance.journal
    runners = _runners(plan, journal)
    for runner in runners:
        runner.begin()
    try:
        return await work
    finally:
        await asyncio.gather(*(runner.finish() for runner in runners))


def _runners(plan: RunPlan, journal: Path) -> list[ExtensionRunner]:
    assembly, terms = plan.assembly, FollowTerms(journal=journal, clock=plan.wall)
    guard = assembly.call_guard
    folder, found, names = progress_folder(journal), list[ExtensionRunner](), set[str]()
    for loaded, made in assembly.extensions:
        if not isinstance(made, Extension):
            continue  # it has hooks only, or a source of facts
        name, title = f"extension-{loaded.entry.name}", f"extension {loaded.entry.name}"
        progress = ProgressFile(folder / f"{name}.json", title)
        border = guard.border(f"{loaded.entry.kind}/{loaded.entry.name}")
        found.append(ExtensionRunner(made, progress, terms, partial(guard.report_extension, loaded.entry), border))
        names.add(name)
    if assembly.settings.ledger.ledger_export_mode == "auto":
        export = LedgerExport(assembly.settings.instance.reports / _LEDGER_FOLDER, plan.rehearsal)
        progress = ProgressFile(folder / f"{_LEDGER}.json", "ledger export")
        found.append(ExtensionRunner(export, progress, terms, lambda _, words: guard.on_extension_failing(words)))
        names.add(_LEDGER)
    try:
        forget_failures(journal, names)
    except TbotError as fault:
        _log.warning("extension.progress_not_stored", reason=fault.message)
    return found
