"""The shadow run of a traded session: it decides on what the session received, and fills by simulation.

It uses the recorded bars and quotes, settings and plugins as a run does, and the matching of a backtest. Nothing is
requested from a vendor.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs
import numpy as np

from tbot_core.backtest.session_walk import BacktestTerms, plain_id, walk_session
from tbot_core.engine.live.data_guard import with_reference
from tbot_core.journal.projections.vix import recorded_vix, with_recorded_vix
from tbot_core.model.bars import FIELDS, Bars, MinuteSlice, Quotes, Tape
from tbot_core.model.day_facts import DayFacts, MarketView
from tbot_core.model.reasons import Reason
from tbot_core.model.types import atoms_of
from tbot_core.reports.drift import ShadowTrades, drift_document
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES
from tbot_core.trading.proposals import (
    ActiveStrategy,
    Proposal,
    ScanResult,
    TradingRules,
    propose,
    screen,
    universe_cut,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from tbot_core.contracts import BrokerCapabilities
    from tbot_core.engine.assembly import Assembly
    from tbot_core.journal.store import Event
    from tbot_core.marketdata.received_bars import RecordedSession
    from tbot_core.trading.verdicts import Verdicts


async def session_drift(
    assembly: Assembly, venue: BrokerCapabilities, recording: RecordedSession, events: Sequence[Event], note: str = ""
) -> dict[str, Any]:
    """The drift of a session as a document, from its received bars and its events in the journal.

    Entries are sized by the rules of `venue`, the broker that traded.
    """
    opened, rules = events[0].payload, _rules(assembly, venue, recording, events[0].payload)
    scan = _Scan(assembly, rules, recording, events)
    bars = await scan.run()
    settings = assembly.settings
    costs = FillCosts.of(settings.simulation, settings.exits.target_fill)
    terms = BacktestTerms(
        rules=rules,
        costs=costs.without_volume_limit(recording.partial_volume),
        name=plain_id,
        checks=assembly.checks,
    )
    equity = atoms_of(Decimal(opened["equity"]))
    walked = walk_session(terms, recording.session, bars, [*scan.proposals.values()], equity)
    shadow = ShadowTrades(
        positions=walked.positions,
        decisions=walked.decisions,
        minutes=len(recording.records),
        remarks=_remarks(recording),
    )
    return drift_document(events, shadow, note)


def _remarks(recording: RecordedSession) -> dict[str, list[tuple[int, str]]]:
    # What may have moved a signal to another minute, by symbol, "" for all.
    found = defaultdict[str, list[tuple[int, str]]](list)
    due = 0
    for record in recording.records:
        found[""] += [(minute, "was not recorded") for minute in range(due, record.minute.index)]
        found[""] += [(record.minute.index, "was filled in after a start")] if record.filled else []
        for amendments, words in ((record.late, "came late (LATE)"), (record.revised, "was revised")):
            for bar in amendments:
                found[recording.symbols[bar.row]].append((bar.minute, words))
        due = record.minute.index + 1
    return found


def _rules(
    assembly: Assembly, venue: BrokerCapabilities, recording: RecordedSession, opened: Mapping[str, Any]
) -> TradingRules:
    # Orders are handled as at a simulator, and sized as at the broker.
    simulated = attrs.evolve(
        SIMULATOR_CAPABILITIES, quantity_step=venue.quantity_step, fractional_types=venue.fractional_types
    )
    rules = assembly.rules(simulated).watching(recording.header.watch_only)
    return attrs.evolve(rules, first_live_day="first_live_day_cap" in opened)


class _Scan:
    # The signals of a recorded session, minute by minute as they were seen.
    def __init__(
        self, assembly: Assembly, rules: TradingRules, recording: RecordedSession, events: Sequence[Event]
    ) -> None:
        self._rules, self._recording, self._clock = rules, recording, assembly.clock
        self._entrants = assembly.entrants(recording.session)
        self.proposals: dict[str, Proposal] = {}
        date, vix = recording.session.date, recorded_vix(events)
        self._days = {
            entrant.name: with_recorded_vix(recording.day, [date], entrant.name, vix) for entrant in self._entrants
        }
        symbols, minutes = recording.symbols, recording.session.minutes
        cut = universe_cut(self._entrants, rules, recording.day, symbols, minutes)
        self._screened: Mapping[str, Verdicts] = {
            entrant.name: screen(entrant, rules, self._days[entrant.name], symbols, minutes, cut=cut)
            for entrant in self._entrants
        }

    async def run(self) -> Bars:
        """Scan all minutes; returns the bars of the whole session, empty after the last recorded minute."""
        recording = self._recording
        tape = Tape(recording.symbols, recording.session.minutes)
        async for minute in recording.minutes():
            tape.append(minute)
            if late := recording.late(minute.index):
                tape.amend((one.minute, one.row, one.values) for one in late)
            for entrant in self._entrants:
                self._scan(entrant, tape.bars, recording.quotes(minute.index))
            await self._clock.sleep(0)  # other tasks come first
        nothing = np.full(len(recording.symbols), np.nan)
        while tape.closed < recording.session.minutes:
            tape.append(MinuteSlice(index=tape.closed, **dict.fromkeys((*FIELDS, "vwap"), nothing)))
        return tape.bars

    def _scan(self, entrant: ActiveStrategy, bars: Bars, quotes: Quotes | None) -> None:
        minute, window, screened = bars.minutes - 1, entrant.window, self._screened[entrant.name]
        if not window.entry <= minute < window.entry_end or not (screened.reasons == Reason.ALLOWED).any():
            return
        day: DayFacts = self._days[entrant.name]
        found = ScanResult(
            signals=entrant.strategy.scan(bars, day, minute), screened=screened, dates=(self._recording.session.date,)
        )
        for proposal in propose(entrant, self._rules, found, MarketView(bars=bars, day=day, quotes=quotes)):
            self.proposals.setdefault(proposal.signal.text, with_reference(proposal, quotes))
