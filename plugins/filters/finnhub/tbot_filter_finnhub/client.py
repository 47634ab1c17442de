"""Reads facts of companies and dates of reports from Finnhub, with as few requests as possible."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

from tbot_core.errors import LoginNeeded, Rejected, Unavailable
from tbot_filter_finnhub import parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tbot_core.contracts import Context, HttpClient

METRICS: Final = "/stock/metric"
CALENDAR: Final = "/calendar/earnings"

COMPANY_DAYS: Final = 7
"""So many days a fact of a company holds."""

EARNINGS_DAYS: Final = 3
"""So many days a date of a report holds: dates are moved, and new ones are announced."""

AHEAD: Final = dt.timedelta(days=EARNINGS_DAYS + 2)
"""The calendar is read to the weekday after the last day on which its dates hold: from a Friday to Monday."""

MOST_ROWS: Final = 1000
"""An answer of so many reports may be cut: its range is read in halves then."""

_NO_ACCESS: Final = "access to this resource"
_PLAN: Final = "see what the plan of the key includes"
_KEY: Final = "store a valid one with `tbot secrets set screener_api`"


class CompanyReader:
    """One request for each symbol, and one for the calendar of all. What was read before a failure is kept that day."""

    def __init__(self, context: Context, *, earnings: bool) -> None:
        """`earnings`: whether dates of reports are read too."""
        self._context = context
        self._earnings = earnings
        self._client: HttpClient | None = None
        self._day: dt.date | None = None
        self._companies: dict[str, dict[str, float] | None] = {}
        self._reports: dict[str, dt.date] | None = None
        self._calendar_read = False
        self._refused: dict[str, str] = {}
        self._answered = False

    async def refresh(self, day: dt.date, symbols: Sequence[str]) -> dict[str, dict[str, float]]:
        """The facts of these symbols. An endpoint that refuses leaves its facts out, and the others go on.

        Raises Unavailable, LoginNeeded for a refused key, and Rejected if every endpoint has refused everything.
        """
        if day != self._day:
            self._day, self._companies, self._reports, self._calendar_read = day, {}, None, False
        if self._earnings and not self._calendar_read:
            self._reports = await self._next_reports(day)
            self._calendar_read = True
        for symbol in symbols:
            if symbol not in self._companies:
                self._companies[symbol] = await self._company(symbol)
        if not self._answered and self._refused:
            refused = "; ".join(f"{path}: {words}" for path, words in self._refused.items())
            raise Rejected(f"Finnhub gives no access to {refused}; {_PLAN}")
        return {symbol: self._facts(day, symbol, self._companies.pop(symbol)) for symbol in symbols}

    def _facts(self, day: dt.date, symbol: str, company: dict[str, float] | None) -> dict[str, float]:
        # Without a report in the calendar the next one is known to be later than what was read of it.
        facts = dict(company or {})
        if self._reports is not None and (company is not None or symbol in self._reports):
            later = day + AHEAD + dt.timedelta(days=1)
            facts[parse.EARNINGS_DATE] = parse.day_number(self._reports.get(symbol, later))
        return facts

    async def _company(self, symbol: str) -> dict[str, float] | None:
        document = await self._get(METRICS, {"symbol": symbol, "metric": "all"})
        return {} if document is None else parse.company_facts(document)

    async def _next_reports(self, day: dt.date) -> dict[str, dt.date] | None:
        # None where the calendar is unknown. A week in which no company reports is not believed.
        reports = await self._calendar(day, day + AHEAD)
        if reports is not None and not reports:
            self._context.log.warning("finnhub.no_reports", first=day.isoformat(), last=(day + AHEAD).isoformat())
        return parse.next_reports(reports, day) if reports else None

    async def _calendar(self, first: dt.date, last: dt.date) -> tuple[tuple[str, dt.date], ...] | None:
        document = await self._get(CALENDAR, {"from": first.isoformat(), "to": last.isoformat()})
        reports = None if document is None else parse.report_dates(document)
        if reports is None or len(reports) < MOST_ROWS or first == last:
            return reports
        middle = first + (last - first) // 2
        earlier = await self._calendar(first, middle)
        later = await self._calendar(middle + dt.timedelta(days=1), last)
        return None if earlier is None or later is None else (*earlier, *later)

    async def _get(self, path: str, params: Mapping[str, str]) -> dict[str, Any] | None:
        # The answer; None where Finnhub refuses this request, which is noted once for each endpoint.
        http = self._http
        try:
            document = (await http.get(path, params)).json()
            if not isinstance(document, dict):
                raise Unavailable(f"Finnhub answered {path} without an object.")
            words = parse.refusal(document)
        except LoginNeeded as fault:
            if _NO_ACCESS not in fault.message:
                raise LoginNeeded(f"Finnhub refused the API key (401): {_KEY}") from fault
            words = fault.message
        except Rejected as fault:
            words = fault.message
        else:
            if words is None:
                self._answered = True
                return document
        if path not in self._refused:
            self._refused[path] = words
            self._context.log.warning("finnhub.no_access", endpoint=path, reason=words, remedy=_PLAN)
        return None

    @property
    def _http(self) -> HttpClient:
        # Made at the first refresh, in the event loop that it runs in.
        if self._client is None:
            key = self._context.secrets.get("screener_api")
            if key is None:
                raise LoginNeeded(f"There is no API key of Finnhub: {_KEY}")
            self._client = self._context.connect.http("api", headers={"X-Finnhub-Token": key.api_key})
        return self._client
