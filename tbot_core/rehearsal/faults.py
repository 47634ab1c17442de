"""The faults of a simulated world by the ids of the fault matrix, and the selection of a seed.

Each fault draws from its own random stream: removing one does not change the others, so that a failing seed can be
shrunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from tbot_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tbot_core.rehearsal.random_streams import RandomStreams

Where: TypeAlias = Literal[
    "submit", "cancel", "replace", "answer", "read", "stream", "venue", "way", "act", "feed", "quote", "clock", "lag"
]

_SWARM: Final = 0.15
_OFTEN: Final = 0.4
_MOSTLY: Final = 0.7
_OUTAGES: Final = frozenset({"F12", "F60", "F61", "F63", "F64", "F65", "F66", "F67"})
_QUIET: Final = 0.1
_RATES: Final = (0.02, 0.1, 0.3)
_TIMED: Final = frozenset({"answer", "way", "act", "feed", "clock"})
_TIMED_RATES: Final = (0.01, 0.03, 0.1)
SLOT_S: Final = 60.0
_LONGER_S: Final = 600.0
"""How much longer than other faults answers with a status may begin."""


@attrs.frozen
class Fault:
    """A fault: what is injected, and where.

    A fault of the network path (`way`), of third parties (`act`), the feed or the clock may strike once a minute, lasts
    `lasts_s` (shortest, longest) and strikes at most `most` times a day. One of the answers may begin once a minute,
    also in the last minutes, and strikes at the next requests of its kind. A `lag` lasts for the whole day. All
    others may strike at every request, event or execution.
    """

    id: str
    injection: str
    where: Where
    lasts_s: tuple[float, float] = (0.0, 0.0)
    most: int = 1_000


_ALL: Final = (
    Fault("F1", "request lost before broker", "submit"),
    Fault("F2", "answer lost after acceptance", "submit"),
    Fault("F3", "answer delayed beyond API_TIMEOUT", "submit"),
    Fault("F4", "request delayed 300 s (stop, exit: list_lag_s), accepted", "submit"),
    Fault("F5", "connection reset mid-request", "submit"),
    Fault("F6", "TLS handshake fails", "way", (2.0, 30.0)),
    Fault("F7", "certificate wrong or expired", "way", (10.0, 60.0)),
    Fault("F8", "DNS fails / resolves elsewhere", "way", (2.0, 30.0)),
    Fault("F9", "HTTP 500 on submit", "submit"),
    Fault("F10", "502/503/504 on submit", "submit"),
    Fault("F11", "429 on submit", "submit"),
    Fault("F12", "429 storm", "way", (10.0, 60.0)),
    Fault("F13", "401/403 mid-session", "way", (10.0, 60.0)),
    Fault("F14", "400 duplicate client id", "submit"),
    Fault("F15", "200 with HTML or empty body", "submit"),
    Fault("F16", "200 with truncated JSON", "submit"),
    Fault("F17", "NaN, inf, 1e400, string numbers", "submit"),
    Fault("F18", "unknown enum/state from broker", "stream"),
    Fault("F19", "ack with different qty or price", "submit"),
    Fault("F20", "ack for unknown cid", "act"),
    Fault("F21", "same ack twice", "stream"),
    Fault("F22", "fill before ack", "stream"),
    Fault("F23", "same fill on socket and poll", "stream"),
    Fault("F24", "fill replay after reconnect", "way"),
    Fault("F25", "fills out of order", "stream"),
    Fault("F26", "missing fill (cumulative jumps)", "stream"),
    Fault("F27", "fill after cancel ack", "stream"),
    Fault("F28", "fill beyond ordered qty", "venue"),
    Fault("F29", "bust / trade correction", "act"),
    Fault("F30", "broker reuses exec id", "venue"),
    Fault("F31", "cancel lost", "cancel"),
    Fault("F32", "cancel crosses fill", "cancel"),
    Fault("F33", "replace crosses fill", "replace"),
    Fault("F34", "replace: refused, the old order stays", "replace"),
    Fault("F35", "cancel-all half done", "cancel"),
    Fault("F37", "stop rejected after entry", "venue"),
    Fault("F38", "OCO both legs fill", "venue"),
    Fault("F40", "halt mid-order", "act", (60.0, 300.0)),
    Fault("F42", "tick/lot rule changes live", "act", most=1),
    Fault("F43", "split overnight", "act", most=1),
    Fault("F44", "symbol rename/delist", "act", most=1),
    Fault("F45", "dividend/fee entries", "act"),
    Fault("F46", "margin call, forced liquidation", "act"),
    Fault("F47", "manual order by human at broker", "act"),
    Fault("F48", "position read fails", "read"),
    Fault("F49", "lists further behind than declared", "read"),
    Fault("F50", "position list truncated by paging", "read"),
    Fault("F51", "balance in wrong currency", "read"),
    Fault("F52", "market data frozen, socket alive", "feed", (15.0, 240.0)),
    Fault("F53", "data gap then burst", "feed", (60.0, 300.0)),
    Fault("F54", "out-of-order / duplicate ticks", "feed"),
    Fault("F55", "spike 10x price", "feed"),
    Fault("F56", "crossed or zero quote", "quote"),
    Fault("F57", "two feeds disagree > x %", "feed", (60.0, 300.0)),
    Fault("F58", "reconnect storm", "way", (5.0, 60.0)),
    Fault("F59", "half-open TCP", "way", (10.0, 60.0)),
    Fault("F60", "partition core/broker 10 min", "way", (60.0, 600.0)),
    Fault("F61", "partition only on trade endpoint", "way", (60.0, 600.0)),
    Fault("F62", "slow link 5 s", "way", (20.0, 120.0)),
    Fault("F63", "broker maintenance", "way", (60.0, 300.0)),
    Fault("F64", "failover while A has UNKNOWN", "way"),
    Fault("F65", "A returns after failover", "way", (60.0, 240.0)),
    Fault("F66", "failover flaps", "way"),
    Fault("F67", "both brokers down", "way", (60.0, 240.0)),
    Fault("F68", "clock +1 h", "clock", (60.0, 300.0)),
    Fault("F69", "clock -1 h", "clock", (60.0, 300.0)),
    Fault("F70", "clock drifts 3 s", "clock", (60.0, 300.0)),
    Fault("F113", "a list comes back empty", "read"),
    Fault("F114", "a page of a list is missing, unnoticed", "read"),
    Fault("F115", "a field is missing or a status unknown", "read"),
    Fault("F116", "an absurd quantity or amount", "read"),
    Fault("F117", "entry answered 3xx, 4xx or 5xx", "answer", most=4),
    Fault("F118", "stop answered 3xx, 4xx or 5xx", "answer", most=4),
    Fault("F119", "exit answered 3xx, 4xx or 5xx", "answer", most=4),
    Fault("F120", "replace answered 3xx, 4xx or 5xx", "answer", most=4),
    Fault("F121", "cancel answered 3xx, 4xx or 5xx", "answer", most=4),
    Fault("F122", "lists, look-ups, events behind as declared", "lag"),
)
FAULTS: Final[Mapping[str, Fault]] = {fault.id: fault for fault in _ALL}
"""The faults of the matrix that the world injects.

F36, F39 and F41 happen without injection; F71 to F112 affect the bot's machine.
"""


def table() -> str:
    """The faults as a Markdown table for the reference."""
    rows = [f"| {fault.id} | {fault.injection} | {_chance_of(fault)} |" for fault in _ALL]
    return "\n".join(("| id | injected | one chance |", "|---|---|---|", *rows))


def _chance_of(fault: Fault) -> str:
    if fault.where == "lag":
        return "a day"
    return "a minute" if fault.where in _TIMED else "a request, event or execution"


def parse_fault_ids(names: Sequence[str]) -> tuple[str, ...]:
    """Check fault ids, and return them in order; raises UsageError for an unknown one."""
    for name in names:
        if name not in FAULTS:
            raise UsageError(f"--fault {name}: no such fault.", f"Known are {', '.join(FAULTS)}.")
    return tuple(name for name in FAULTS if name in names)


class SeedFaults:
    """The faults of one seed: which are on, their rates, and how often each was injected.

    `forced` None lets the seed choose (swarm testing): most faults are off, and one seed in ten has none. Otherwise
    exactly the forced ones are on, at the seed's rates for them. `rates` overrides the rates. No fault strikes from
    second `until` of the world on, but answers with a status begin for ten minutes more. `often`: network outages are
    on more often, for worlds with several venues.
    """

    def __init__(
        self,
        chances: RandomStreams,
        forced: Sequence[str] | None = None,
        *,
        rates: Mapping[str, float] | None = None,
        until: float = float("inf"),
        often: bool = False,
    ) -> None:
        self._chances = chances
        self._often = _OUTAGES if often else frozenset[str]()
        self._until = until
        on = self._swarm() if forced is None else parse_fault_ids(forced)
        given = {name: rates[name] for name in parse_fault_ids([*rates])} if rates else {}
        self.rates: dict[str, float] = {name: self._rate(name) for name in on} | given
        self.injected: dict[str, int] = {}

    @property
    def on(self) -> tuple[str, ...]:
        """The ids of the faults that may strike."""
        return tuple(self.rates)

    @property
    def over_at(self) -> float:
        """The second of the world from which no fault strikes."""
        return self._until

    def strikes(self, name: str, now: float) -> bool:
        """Draw whether the fault strikes now; it is counted if it does."""
        struck = bool(self.first((name,), now))
        if struck:
            self.count(name)
        return struck

    def first(self, names: Sequence[str], now: float) -> str:
        """The first of the faults that strikes now, "" for none; the caller counts it.

        Each fault draws once, so that the draws of the others do not change.
        """
        if now >= self._until:
            return ""
        rates = ((name, self.rates[name]) for name in names if name in self.rates)
        struck = [name for name, rate in rates if self._chances.stream(f"strikes/{name}").happens(rate)]
        return struck[0] if struck else ""

    def count(self, name: str) -> None:
        """Count an injected fault."""
        self.injected[name] = self.injected.get(name, 0) + 1

    def planned(self, name: str, start: float, end: float) -> list[tuple[float, float]]:
        """The times (begin, end) of a timed fault; the caller counts them.

        It may strike once in each minute, and ends at `until` at the latest.
        """
        rate = self.rates.get(name)
        if rate is None:
            return []
        stream, free = self._chances.stream(f"plan/{name}"), start
        over = self._until + (_LONGER_S if FAULTS[name].where == "answer" else 0.0)
        found: list[tuple[float, float]] = []
        for slot in range(int((end - start) // SLOT_S)):
            strikes, at = stream.happens(rate), start + (slot + stream.between(0.0, 1.0)) * SLOT_S
            lasts = stream.between(*FAULTS[name].lasts_s)
            if strikes and free <= at < min(end, over) and len(found) < FAULTS[name].most:
                free = min(at + lasts, over)
                found.append((at, free))
        return found

    def _rate(self, name: str) -> float:
        return self._chances.stream(f"rate/{name}").one(_TIMED_RATES if FAULTS[name].where in _TIMED else _RATES)

    def _swarm(self) -> tuple[str, ...]:
        if self._chances.stream("swarm").happens(_QUIET):
            return ()
        rates = {name: _OFTEN if name in self._often else _SWARM for name in FAULTS} | {"F122": _MOSTLY}
        return tuple(name for name, rate in rates.items() if self._chances.stream(f"swarm/{name}").happens(rate))
