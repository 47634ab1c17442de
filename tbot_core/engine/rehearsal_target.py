"""The target of `tbot run --rehearsal`: the addresses of servers on this machine, and when the session opens there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import attrs

from tbot_core.errors import UsageError
from tbot_core.instance.folder import REHEARSAL
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.clock import exchange_time

if TYPE_CHECKING:
    from tbot_core.model.calendar import Session

LEAD: Final = timedelta(minutes=2)
"""How long after its start the session of a rehearsal opens by default."""

_HERE: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_PARTS: Final = frozenset({"stream", "opens"})
_PLUGIN: Final = re.compile(r"(alert|extension|filter)\.[a-z][a-z0-9_]*")
_PORTS: Final = re.compile(r"([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?")
_LAST_PORT: Final = 65_535
_PRINTS: Final = "`tbot rehearse --broker NAME --serve` prints the whole address."
_TIME: Final = "%Y%m%dT%H%M%S"


@attrs.frozen(kw_only=True)
class RehearsalTarget:
    """Where a rehearsal trades, and when its session opens.

    `url` is the address of the broker's server, `stream` that of its WebSockets, "" for the same. `ports` are those of
    the servers of other plugins on this machine, by KIND.NAME: for HTTP or mail, and for WebSockets. `opens` is a
    moment of the machine's clock: two starts with one moment are one rehearsal, and the second resumes it.
    """

    url: str
    stream: str = ""
    opens: datetime
    ports: Mapping[str, tuple[int, int]] = attrs.field(factory=dict, hash=False)

    @property
    def run(self) -> str:
        """The id of the run."""
        return f"{REHEARSAL}{self.opens.astimezone(UTC):{_TIME}}"

    @property
    def text(self) -> str:
        """The target as `tbot run --rehearsal` takes it."""
        given = {"stream": self.stream, "opens": f"{self.opens.astimezone(UTC):{_TIME}}"}
        given |= {name: f"{one}" if one == two else f"{one}-{two}" for name, (one, two) in self.ports.items()}
        return f"{self.url}?{urlencode({name: text for name, text in given.items() if text}, safe=':/')}"

    def addresses(self, kind: str, name: str) -> tuple[str, str]:
        """The addresses of a plugin's server, for HTTP or mail and for WebSockets; empty without one."""
        if kind == "broker":
            return self.url, self.stream or self.url
        one, two = (f"http://127.0.0.1:{port}" if port else "" for port in self.ports.get(f"{kind}.{name}", (0, 0)))
        return one, two


def rehearsal_target(text: str, now: datetime) -> RehearsalTarget:
    """The target of a URL; by default the session opens in two minutes.

    Optional are `?stream=URL`, `?opens=TIME`, and `?KIND.NAME=PORT` for each further plugin with a server, with
    `PORT-PORT` where its WebSockets have another one. Raises UsageError for an address that is not on this machine, and
    for a text that is not a time or a port.
    """
    url, _, query = text.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    ports = {name: _ports(name, text) for name, text in given.items() if _PLUGIN.fullmatch(name)}
    if unknown := sorted(given.keys() - _PARTS - ports.keys()):
        known = f"{', '.join(sorted(_PARTS))}, and a plugin as in alert.email"
        raise UsageError(f"--rehearsal: {', '.join(unknown)} is unknown in the address; known: {known}.", _PRINTS)
    for address in (url, given.get("stream", url)):
        if fault := _address_fault(address):
            raise UsageError(fault, "Give http://127.0.0.1:PORT, where a server plays the venue.")
    opens = (now + LEAD).replace(microsecond=0)
    if "opens" in given:
        try:
            opens = datetime.strptime(given["opens"], _TIME).replace(tzinfo=UTC)
        except ValueError as fault:
            message = f"--rehearsal: opens={given['opens']} is not a time of the form 20260303T143000 (UTC)."
            raise UsageError(message, _PRINTS) from fault
    return RehearsalTarget(url=url, stream=given.get("stream", ""), opens=opens, ports=ports)


def _ports(name: str, text: str) -> tuple[int, int]:
    found = _PORTS.fullmatch(text)
    one, two = (int(port) for port in (found.group(1), found.group(2) or found.group(1))) if found else (0, 0)
    if found is None or max(one, two) > _LAST_PORT:
        raise UsageError(f"--rehearsal: {name}={text} is not a port of this machine.", _PRINTS)
    return one, two


def _address_fault(address: str) -> str:
    # Why the address is not that of a server on this machine; "" if it is one.
    try:
        split = urlsplit(address)
    except ValueError:
        return f"The rehearsal's address is not valid: {address}."
    if not split.scheme or not split.hostname:
        return f"The rehearsal's address is not valid: {address or 'it is empty'}."
    if split.scheme != "http" or split.hostname not in _HERE:
        return f"A rehearsal reaches servers on this machine only, by http, not {address}."
    try:
        is_port = split.port != 0
    except ValueError:
        is_port = False
    return "" if is_port else f"The port of the rehearsal's address is not valid: {address}."


def rehearsed_session(opens: datetime) -> Session:
    """The session that opens at this moment of the machine's clock: the exchange's next one."""
    calendar, today = ExchangeCalendar(), exchange_time(opens).date()
    session = calendar.session(today)
    return session if session is not None and session.open > opens else calendar.next(today)


def rehearsal_shift(opens: datetime) -> timedelta:
    """How far the clock of a rehearsal is ahead of the machine's."""
    return rehearsed_session(opens).open - opens


def opens_of_run(run: str) -> datetime:
    """When the session of a rehearsal opens by the machine's clock, from its run id; raises ValueError for another."""
    return datetime.strptime(run.removeprefix(REHEARSAL), _TIME).replace(tzinfo=UTC)
