"""The judge of the bot shares no figure and no belief with it: `tools/judge_lint.py` finds what it imports."""

from __future__ import annotations

import judge_lint
import pytest

INVARIANTS = "tbot_core/rehearsal/invariants/deadlines.py"
VENUE = "plugins/brokers/acme/tbot_broker_acme/venue.py"
LIMIT = "from tbot_core.execution.reconciler import LEAST_WINDOW_S"
FOLD = "from tbot_core.journal.projections.book import fold_events"


def test_the_judge_is_independent_of_what_it_judges() -> None:
    """No module of the simulation, of the test kits or of a plugin's venue has a finding."""
    assert judge_lint.main() == 0


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        (INVARIANTS, LIMIT, ["tbot_core.execution.reconciler.LEAST_WINDOW_S"]),
        (VENUE, LIMIT, ["tbot_core.execution.reconciler.LEAST_WINDOW_S"]),
        (VENUE, "from tbot_core.engine import control\nx = control.POLL_S", ["tbot_core.engine.control.POLL_S"]),
        (VENUE, "from tbot_core.engine.control import ControlVerb\nx = ControlVerb.KILL", []),
        (INVARIANTS, FOLD, ["tbot_core.journal.projections.book.fold_events"]),
        (judge_lint.RESTARTS, FOLD, []),
        (INVARIANTS, "if TYPE_CHECKING:\n    from tbot_core.engine.session.session import TradingSession", []),
        (INVARIANTS, "from tbot_core.journal.ledger import ledger_of", []),
    ],
)
def test_a_planted_import_is_found(path: str, source: str, found: list[str]) -> None:
    """A constant anywhere, and in an invariant any code of the bot but what is named with its reason."""
    assert [words.rpartition(" ")[2] for words in judge_lint.findings(source, path)] == found
