"""Writes the heads of the two hash chains, audit log and journal, to the log: every hour of a run and at its end.

Alerts send them every hour.

A chain does not show that its end was cut off, or that an older copy took its place. A head that was collected with the
log on another machine does.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Final, TypeVar

from tbot_core.errors import TbotError
from tbot_core.journal import integrity
from tbot_core.journal.store import read_journal
from tbot_core.system import log
from tbot_core.vault import audit_log

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from tbot_core.instance import Instance

T = TypeVar("T")
EVERY_S: Final = 3600.0
_log = log.logger(__name__)


async def with_chain_heads(work: Coroutine[Any, Any, T], instance: Instance) -> T:
    """Await the work, and log the heads now, every hour, and when it has ended in any way."""
    hourly = asyncio.create_task(_log_hourly(instance))
    try:
        return await work
    finally:
        hourly.cancel()
        await asyncio.gather(hourly, return_exceptions=True)
        log_chain_heads(instance)


async def _log_hourly(instance: Instance) -> None:
    while True:
        log_chain_heads(instance)
        await asyncio.sleep(EVERY_S)


def log_chain_heads(instance: Instance) -> None:
    """Log `chain.heads` with the head of each chain that exists, as COUNT:HASH; a fault is logged instead."""
    try:
        heads = read_chain_heads(instance)
    except TbotError as fault:
        _log.warning("chain.heads_unknown", reason=str(fault))
        return
    if heads:
        _log.info("chain.heads", **heads)


def read_chain_heads(instance: Instance) -> dict[str, str]:
    """The head of each chain that exists, `secrets` and `journal`, as COUNT:HASH. Raises TbotError."""
    heads: dict[str, str] = {}
    secrets = audit_log.log_head(audit_log.log_path(instance))
    if secrets.count:
        heads["secrets"] = secrets.text
    if integrity.journal_exists(instance.journal):
        with closing(read_journal(instance.journal)) as journal:
            count, digest = journal.head
        if count:
            heads["journal"] = f"{count}:{digest}"
    return heads
