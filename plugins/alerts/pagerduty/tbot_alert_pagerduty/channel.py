"""The channel: one request to PagerDuty for each alert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tbot_alert_pagerduty.event import EventAction, compose_event
from tbot_core.errors import BrokerError, LoginNeeded, OutcomeUnknown, Rejected, Undelivered

if TYPE_CHECKING:
    from tbot_core.contracts import Alert, Context, HttpClient, HttpResponse

_ACCEPTED: Final = 202
_KEY: Final = "Check the integration key: `tbot secrets set alert` stores another one."
_LATER: Final = "It is sent again under the same dedup key, so it opens one incident only."


class PagerDutyChannel:
    """Triggers, acknowledges and resolves incidents."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._client: HttpClient | None = None

    async def send(self, alert: Alert) -> str:
        """Trigger the incident of the alert's key, or resolve it; returns PagerDuty's answer."""
        return await self._post(alert, EventAction.RESOLVE if alert.resolved else EventAction.TRIGGER)

    async def acknowledge(self, alert: Alert) -> str:
        """Acknowledge the incident of the alert's key; returns PagerDuty's answer."""
        return await self._post(alert, EventAction.ACKNOWLEDGE)

    async def _post(self, alert: Alert, action: EventAction) -> str:
        key = self._context.secrets["alert"].routing_key
        try:
            answer = await self._http.send("POST", "/enqueue", json=compose_event(alert, action, key.reveal()))
        except LoginNeeded as fault:
            raise Undelivered(fault.message, _KEY) from fault
        except Rejected as fault:
            raise Undelivered(fault.message, fault.remedy or _KEY) from fault
        except OutcomeUnknown as fault:
            raise Undelivered(fault.message, _LATER, retry_after_s=fault.retry_after_s) from fault
        except BrokerError as fault:
            raise Undelivered(fault.message, fault.remedy, retry_after_s=fault.retry_after_s) from fault
        if answer.status != _ACCEPTED:
            raise Undelivered(f"PagerDuty answered {answer.status}, not {_ACCEPTED}: the event was not accepted.", _KEY)
        return f"{action.value}: {answer.status} {_message(answer)}".rstrip()

    @property
    def _http(self) -> HttpClient:
        # Made at the first alert, in the event loop that sends. The service handles an event that it refuses with 429
        # not at all, so it may be sent again.
        if self._client is None:
            self._client = self._context.connect.http("events", rejects_429=True)
        return self._client


def _message(answer: HttpResponse) -> str:
    # The words of an accepted event; the status alone decides, so an answer that cannot be read has none.
    try:
        document: Any = answer.json()
    except BrokerError:
        return ""
    words = document.get("message") if isinstance(document, dict) else None
    return words if isinstance(words, str) else ""
