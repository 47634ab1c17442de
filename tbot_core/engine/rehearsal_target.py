"""The target of `tbot run --rehearsal`: the address of a server on this machine, and when the session opens there."""

from __future__ import annotations

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
_PRINTS: Final = "`tbot rehearse --broker NAME --serve` prints the whole address."
_TIME: Final = "%Y%m%dT%H%M%S"


@attrs.frozen(kw_only=True)
class RehearsalTarget:
    """Where a rehearsal trades, and when its session opens.

    `url` is the server's address, `stream` that of its WebSockets, "" for the same. `opens` is a moment of the
    machine's clock: two starts with one moment are one rehearsal, and the second resumes it.
    """

    url: str
    stream: str = ""
    opens: datetime

    @property
    def run(self) -> str:
        """The id of the run."""
        return f"{REHEARSAL}{self.opens.astimezone(UTC):{_TIME}}"

    @property
    def bars_dir(self) -> str:
        """The folder of its stored bars, within the instance's."""
        return f"data/runs/{self.run}-bars"

    @property
    def text(self) -> str:
        """The target as `tbot run --rehearsal` takes it."""
        given = {"stream": self.stream, "opens": f"{self.opens.astimezone(UTC):{_TIME}}"}
        return f"{self.url}?{urlencode({name: text for name, text in given.items() if text}, safe=':/')}"


def rehearsal_target(text: str, now: datetime) -> RehearsalTarget:
    """The target of a URL, `?stream=URL` and `?opens=TIME` optional; by default the session opens in two minutes.

    Raises UsageError for an address that is not on this machine, and for a text that is not a time.
    """
    url, _, query = text.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(given.keys() - _PARTS):
        message = f"--rehearsal: {', '.join(unknown)} is unknown in the address; known: {', '.join(sorted(_PARTS))}."
        raise UsageError(message, _PRINTS)
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
    return RehearsalTarget(url=url, stream=given.get("stream", ""), opens=opens)


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
