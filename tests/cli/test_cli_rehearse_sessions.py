"""`tbot rehearse --session`: stored sessions at the venue of a broker, one after the other, and what is printed."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tbot_core.actions import session_rehearsals
from tbot_core.cli.commands.rehearse import command
from tbot_core.errors import UsageError
from tbot_core.rehearsal.session_rehearsal import SessionReport, SessionTerms

if TYPE_CHECKING:
    from pathlib import Path

DAYS = (dt.date(2018, 3, 20), dt.date(2018, 3, 21))


@pytest.fixture
def rehearsed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path, dt.date, SessionTerms]]:
    """The sessions that are rehearsed; one with faults does not agree."""
    asked: list[tuple[str, Path, dt.date, SessionTerms]] = []

    def days(_home: Path, first: dt.date, last: dt.date, _clock: Any) -> tuple[dt.date, ...]:
        return tuple(day for day in DAYS if first <= day <= last)

    def rehearse(plugin: Any, home: Path, day: dt.date, terms: SessionTerms, _clock: Any) -> SessionReport:
        asked.append((plugin.name, home, day, terms))
        wrong = () if terms.seed is None else ("CASH: ...",)
        counts = dict.fromkeys(("decisions", "orders", "fills", "trades"), 2)
        return SessionReport(
            day=day,
            terms=terms,
            faults={},
            shorts=1,
            denials={"PRICE_LOW": 1, "VOLUME_LOW": 7},
            differences=(),
            disagreements=wrong,
            venue=("5 requests",),
            **counts,
        )

    monkeypatch.setattr(session_rehearsals, "recorded_days", days)
    monkeypatch.setattr(session_rehearsals, "rehearse_session", rehearse)
    return asked


def test_a_session_is_traded_and_compared(rehearsed: Any, tmp_path: Path) -> None:
    """By its date, from the instance's home, with bid and ask at the last close; what denied most comes first."""
    done = CliRunner().invoke(command, ["--broker", "paper", "--session", "2018-03-20", "--home", str(tmp_path)])
    assert done.exit_code == 0
    assert rehearsed == [("paper", tmp_path, DAYS[0], SessionTerms())]
    assert done.stdout.splitlines() == [
        "2018-03-20: 2 decisions, 2 orders, 2 fills, 2 trades (1 short)",
        "denials: VOLUME_LOW 7, PRICE_LOW 1",
        "differences from the replay: none",
        "venue, journal and bot agree",
        "5 requests",
        "The sessions took 0 s.",
    ]


def test_a_range_is_traded_with_a_spread_and_again_with_the_faults_of_seeds(rehearsed: Any, tmp_path: Path) -> None:
    """What does not agree ends the command with exit code 1."""
    given = ("--session", "2018-03-20..2018-03-21", "--half-spread", "1", "--seeds", "2", "--first-seed", "7", "--json")
    done = CliRunner().invoke(command, ["--broker", "paper", *given, "--home", str(tmp_path)])
    assert done.exit_code == 1
    spread = Decimal("0.01")
    assert [(day, terms) for _, _, day, terms in rehearsed] == [
        (day, SessionTerms(half_spread=spread, seed=seed)) for day in DAYS for seed in (None, 7, 8)
    ]
    found = json.loads(done.stdout)
    assert found["broker"] == "paper"
    assert found["sessions"][0]["denials"] == {"PRICE_LOW": 1, "VOLUME_LOW": 7}
    assert [one["violations"] for one in found["sessions"]] == [[], ["CASH: ..."], ["CASH: ..."]] * 2


@pytest.mark.parametrize("more", [[], ["--broker", "paper", "--fault", "F2"], ["--broker", "paper", "--workers", "2"]])
def test_a_session_needs_a_broker_and_excludes_what_has_no_effect(more: list[str]) -> None:
    """The options that do not go together are named."""
    done = CliRunner().invoke(command, ["--session", "2018-03-20", *more])
    assert isinstance(done.exception, UsageError)
    assert done.exception.message.startswith("--session needs --broker NAME")


@pytest.mark.parametrize("given", [["--half-spread", "1"], ["--broker", "paper", "--serve", "--half-spread", "0"]])
def test_a_spread_needs_a_session(given: list[str]) -> None:
    """It would have no effect."""
    done = CliRunner().invoke(command, given)
    assert isinstance(done.exception, UsageError)
    assert done.exception.message == "--half-spread has no effect without --session."
