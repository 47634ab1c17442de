"""What an approval would pin, as a person is shown it."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from tbot_core.actions.plugins import LockProposal
from tbot_core.contracts.permissions import CHOSEN, Host, PluginNeeds
from tbot_core.plugins.distributions import DistributionOrigin
from tbot_core.plugins.lock import LockedPlugin, PluginLock, lock_changes

ONE = LockedPlugin(
    kind="strategy",
    name="drift",
    distribution="their-drift",
    version="2.5",
    origin=DistributionOrigin(kind="index", installer="pip"),
    entry_points=("tbot.strategies: drift = their_drift",),
    files={f"their_drift/{number}.py": "a" for number in range(12)},
    needs=PluginNeeds(hosts={"service": Host(CHOSEN)}),
    approver="Ada",
    date="2026-03-02T09:30:00Z",
)


def proposal(before: LockedPlugin | None, after: LockedPlugin | None) -> LockProposal:
    """The proposal of one plugin in the place of another."""
    old = None if before is None else PluginLock(plugins=(before,))
    new = PluginLock(plugins=() if after is None else (after,))
    changes = lock_changes(old or PluginLock(), new)
    return LockProposal(path=Path(), previous=old, proposed=new, changes=changes, warnings=())


def test_a_row_says_what_the_plugin_needs_and_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that the operator chooses is named by its setting."""
    (row,) = proposal(None, ONE).rows
    assert (row["state"], row["before"], row["changes"]) == ("new", "", [])
    assert row["needs"] == "hosts the https host that the operator sets in HOST_DRIFT_SERVICE"
    assert "runs in the process of the bot" in str(row["sentence"])
    monkeypatch.setenv("TBOT_PLUGINS_ISOLATE", "drift")
    (row,) = proposal(ONE, ONE).rows
    assert (row["state"], row["isolation"]) == ("as approved", "worker")
    assert "runs in a worker process" in str(row["sentence"])


def test_many_changes_are_counted() -> None:
    """Ten are shown; what was approved is there with its version and hash."""
    other = attrs.evolve(ONE, version="2.6", files=dict.fromkeys(ONE.files, "b"))
    (row,) = proposal(ONE, other).rows
    shown = row["changes"]
    assert isinstance(shown, list)
    assert (len(shown), shown[-1]) == (11, "and 3 more differences.")
    assert (row["state"], row["before"]) == ("changed", f"2.5, {ONE.files_hash}")
    (gone,) = proposal(ONE, None).rows
    assert (gone["state"], gone["sentence"]) == (
        "removed",
        "removed: strategy drift, their-drift 2.5, is no longer enabled.",
    )


@pytest.mark.parametrize(
    "other",
    [
        attrs.evolve(ONE, files={**ONE.files, "their_drift/0.py": "b"}),
        attrs.evolve(ONE, needs=PluginNeeds(orders=True)),
        attrs.evolve(ONE, version="2.6"),
        attrs.evolve(ONE, origin=DistributionOrigin(kind="direct", url="https://x.example")),
    ],
)
def test_the_digest_is_of_what_is_pinned(other: LockedPlugin) -> None:
    """Not of who approves and when; what was pinned before counts, since the changes are shown."""
    again = attrs.evolve(ONE, approver="Grace", date="2026-04-01T08:00:00Z")
    assert proposal(None, again).digest == proposal(None, ONE).digest
    assert proposal(None, other).digest != proposal(None, ONE).digest
    assert proposal(other, ONE).digest != proposal(None, ONE).digest
