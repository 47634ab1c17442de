"""The contract of extensions that publish daily series, at a server of their own: cases, and a pytest class.

A plugin's test supplies the venue, the same that `Plugin.venue` opens::

    class TestSeries(SeriesContract):
        @pytest.fixture
        def venue(self) -> Iterator[SeriesVenue]:
            with open_venue() as found:
                yield found

`series_venue` makes such a venue of a function that answers requests.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tbot_core.contracts.series import VIX
from tbot_core.errors import BrokerError, Unavailable
from tbot_core.marketdata.store.series import PublishedSeries, check_series
from tbot_core.model.calendar import EXCHANGE_WEEKDAYS
from tbot_core.model.clock import ManualClock, exchange_time
from tbot_core.plugins.guarded import checked_series
from tbot_core.testing.contract import ContractCase, ContractTests, demand
from tbot_core.testing.scripted_server import ScriptedServer, ServerFault, context

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from tbot_core.contracts import Context, DailyValue, PluginNeeds, SupportsDailySeries
    from tbot_core.model.clock import Clock
    from tbot_core.testing.scripted_server import ServerReply, ServerRequest

_NOW: Final = dt.datetime(2026, 11, 24, 13, tzinfo=dt.UTC)
_DAYS: Final = 365
_TURN: Final = 40


class SeriesVenue:
    """An extension that publishes series, and the server behind it in the same event loop; `names` are the series."""

    def __init__(
        self, runner: asyncio.Runner, server: ScriptedServer, clock: Clock, names: Sequence[str], subject: Context
    ) -> None:
        self._runner, self.server, self.clock, self.names, self.context = runner, server, clock, names, subject
        self.source: SupportsDailySeries

    @property
    def today(self) -> dt.date:
        """The exchange's date."""
        return exchange_time(self.clock.now()).date()

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await a call of the extension in the loop of the server; returns its result."""
        return self._runner.run(call)


@contextmanager
def series_venue(
    answer: Callable[[ServerRequest, dt.date], ServerReply],
    create: Callable[[Context], SupportsDailySeries],
    needs: PluginNeeds,
    *,
    names: Sequence[str],
    place: tuple[asyncio.Runner | None, Clock | None] = (None, None),
) -> Iterator[SeriesVenue]:
    """A venue whose server answers each request with `answer(request, today)`; all hosts of `needs` lead to it.

    `place`: the event loop and the clock that a rehearsal brings; without them it has its own.
    """
    given, clock = place
    clock = clock or ManualClock(_NOW)
    with asyncio.Runner() as own:
        runner = given or own
        server = ScriptedServer(lambda request: answer(request, exchange_time(clock.now()).date()))
        runner.run(server.__aenter__())
        venue = SeriesVenue(runner, server, clock, names, context(server, hosts=needs.hosts, clock=clock))
        venue.source = create(venue.context)
        try:
            yield venue
        finally:
            runner.run(venue.context.connect.close())
            runner.run(server.__aexit__(None, None, None))


def drawn_days(name: str, today: dt.date) -> dict[dt.date, float]:
    """Plausible values of a series for the year before `today`: of the VIX on weekdays, of a rate on all days."""
    days = (today - dt.timedelta(days=back) for back in range(_DAYS, 0, -1))
    kept = (day for day in days if name != VIX or day.weekday() in EXCHANGE_WEEKDAYS)
    turn = {day: day.toordinal() % _TURN for day in kept}
    return {day: 12.0 + step / 4 if name == VIX else 0.04 + step / 10_000 for day, step in turn.items()}


def s01_it_publishes_what_it_declares(venue: SeriesVenue) -> None:
    """Each series is plausible: days that are over, the oldest first, up to the last week, and possible values."""
    demand(bool(venue.names), "the plugin declares no series")
    for name in venue.names:
        check_series(PublishedSeries(name=name, source="the plugin", values=_values(venue, name)), venue.today)


def s02_a_service_that_fails_is_unavailable(venue: SeriesVenue) -> None:
    """A lost connection, 503, 429, half an answer and an empty one raise Unavailable; the next call works again."""
    faults = (ServerFault.LOST_REQUEST, ServerFault.SERVER_ERROR, ServerFault.TOO_MANY)
    for fault in (*faults, ServerFault.UNREADABLE, ServerFault.EMPTY):
        venue.server.fail(fault, times=None)
        try:
            values = _values(venue, venue.names[0])
        except Unavailable:
            pass
        else:
            raise AssertionError(f"{fault.name}: daily_series returned {len(values)} values instead of Unavailable")
        finally:
            venue.server.recover()
    demand(bool(_values(venue, venue.names[0])), "after the service is back nothing is published")


def s03_a_refused_request_is_an_error(venue: SeriesVenue) -> None:
    """401 raises an error of the network, as `Context.connect` does."""
    venue.server.fail(ServerFault.LOGIN, times=None)
    try:
        _values(venue, venue.names[0])
    except BrokerError:
        return
    finally:
        venue.server.recover()
    raise AssertionError("a refused request must raise BrokerError")


CASES: Final[tuple[ContractCase, ...]] = (
    s01_it_publishes_what_it_declares,
    s02_a_service_that_fails_is_unavailable,
    s03_a_refused_request_is_an_error,
)
"""The contract, in order of the numbers."""


class SeriesContract(ContractTests):
    """The contract as tests; a subclass, or its module, has a fixture `venue`."""

    cases = CASES

    def test_contract(self, case: ContractCase, venue: SeriesVenue) -> None:
        """Run one case."""
        case(venue)


def _values(venue: SeriesVenue, name: str) -> Sequence[DailyValue]:
    return checked_series(venue.wait(venue.source.daily_series(name)))
