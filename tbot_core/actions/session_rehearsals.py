"""Recorded sessions of an instance, traded by a broker plugin at its own venue, and what is printed of them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import attrs

from tbot_core.instance import Instance
from tbot_core.model.clock import SystemClock
from tbot_core.model.dates import day_range
from tbot_core.rehearsal.broker_rehearsal import broker_plugin
from tbot_core.rehearsal.session_rehearsal import SessionReport, SessionTerms, recorded_days, rehearse_session

_CENTS: Final = 100


@attrs.frozen(kw_only=True)
class SessionOptions:
    """The sessions, as DATE or FROM..TO, of the instance at `home`; the half spread in cents, and seeds of faults.

    Each session is traded once without faults, and then once with those of each seed.
    """

    broker: str
    sessions: str
    home: Path | None
    half_spread_cents: float
    seeds: range


@attrs.define
class SessionTally:
    """The reports of the sessions that are done, and their time in seconds."""

    broker: str
    took_s: float = 0.0
    reports: list[SessionReport] = attrs.field(factory=list)

    @property
    def violated(self) -> bool:
        """Whether a difference has no cause, or venue, journal and bot do not agree."""
        return any(report.violations for report in self.reports)

    def document(self) -> dict[str, Any]:
        """The reports as a JSON document."""
        return {
            "broker": self.broker,
            "took_s": self.took_s,
            "sessions": [report.document() for report in self.reports],
        }

    def lines(self) -> list[str]:
        """The reports as text."""
        return [
            *(line for report in self.reports for line in report.lines()),
            f"The sessions took {self.took_s:.0f} s.",
        ]


def rehearse_sessions(options: SessionOptions) -> SessionTally:
    """Trade the sessions, one after the other."""
    plugin, home, clock = broker_plugin(options.broker), Instance.at(options.home).home, SystemClock()
    first, _, last = options.sessions.partition("..")
    half_spread = Decimal(str(options.half_spread_cents)) / _CENTS
    began, tally = clock.monotonic(), SessionTally(broker=options.broker)
    for day in recorded_days(home, *day_range(first, last or first), clock):
        for seed in (None, *options.seeds):
            terms = SessionTerms(half_spread=half_spread, seed=seed)
            tally.reports.append(rehearse_session(plugin, home, day, terms, clock))
    tally.took_s = clock.monotonic() - began
    return tally
