"""The heads of audit log and journal go to the log, from where they may be collected elsewhere."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.engine.chain_heads import log_chain_heads, with_chain_heads
from tbot_core.instance import Instance
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.rehearsal.virtual_loop import VirtualLoop
from tbot_core.vault.audit_log import log_head, log_path

if TYPE_CHECKING:
    from pathlib import Path

TIME = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What the module logged, without what every line has."""
    ours: list[Any] = [it.msg for it in caplog.records if it.name == "tbot_core.engine.chain_heads"]
    return [{name: it[name] for name in ("event", "secrets", "journal", "reason") if name in it} for it in ours]


def test_an_hour_of_a_run_and_its_end_log_both_heads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each as the number of entries and the hash of the last; a run of two hours and a half logs four times."""
    instance = Instance(tmp_path)
    open_instance_vault(instance, DeploymentSettings()).note("open", "smtp", "ok")
    with closing(open_journal(instance.journal)) as journal:
        journal.append([NewEvent(kind="risk", payload={}, time=TIME)])
        count, digest = journal.head
    loop = VirtualLoop()
    with caplog.at_level(logging.INFO):
        loop.run_until_complete(with_chain_heads(asyncio.sleep(9000), instance))
    loop.close()
    heads = {"secrets": log_head(log_path(instance)).text, "journal": f"{count}:{digest}"}
    assert logged(caplog) == [{"event": "chain.heads", **heads}] * 4
    assert heads["secrets"].startswith("3:")


def test_a_run_that_fails_logs_the_heads_at_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And its exception is the one that is raised."""
    instance = Instance(tmp_path)
    open_instance_vault(instance, DeploymentSettings())

    async def fail() -> None:
        raise RuntimeError("broken")

    with caplog.at_level(logging.INFO), pytest.raises(RuntimeError, match="broken"):
        asyncio.run(with_chain_heads(fail(), instance))
    assert [it["event"] for it in logged(caplog)][-1:] == ["chain.heads"]


def test_where_nothing_is_chained_nothing_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An instance without secrets and journal, and one whose journal is empty, have no head."""
    instance = Instance(tmp_path)
    with caplog.at_level(logging.INFO):
        log_chain_heads(instance)
        instance.data.mkdir()
        open_journal(instance.journal).close()
        log_chain_heads(instance)
    assert logged(caplog) == []


def test_a_head_that_cannot_be_read_is_logged_as_a_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The run goes on."""
    instance = Instance(tmp_path)
    instance.data.mkdir()
    instance.journal.write_bytes(b"no database" * 100)
    with caplog.at_level(logging.INFO):
        log_chain_heads(instance)
    (line,) = logged(caplog)
    assert line["event"] == "chain.heads_unknown"
    assert "is damaged" in line["reason"]
