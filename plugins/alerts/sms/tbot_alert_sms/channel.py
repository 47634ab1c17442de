"""The channel: one request to Twilio for each recipient of each alert."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_alert_sms.message import compose_text, message_form
from tbot_core.errors import BrokerError, LoginNeeded, OutcomeUnknown, PartlyDelivered, Rejected, Undelivered
from tbot_core.model.formatting import plural

if TYPE_CHECKING:
    from tbot_alert_sms import TwilioCredentials
    from tbot_core.contracts import Alert, Context, HttpClient, HttpResponse

_QUEUED: Final = 201
_EDIT: Final = "`tbot secrets edit alert` corrects it."
_LOGIN: Final = "Check account_sid and auth_token: Twilio console, Account Info; `tbot secrets edit alert`."
_UNCLEAR: Final = "It may have arrived, and is not sent by text message again."


@attrs.frozen
class _Outcome:
    # What became of the message to one recipient: no words where Twilio queued it.
    recipient: str
    words: str = ""
    remedy: str = ""
    unclear: bool = False
    retry_after_s: float | None = None


class SmsChannel:
    """Sends text messages. Twilio cannot recognise a repeated request, so an alert is sent once."""

    sends_once = True

    def __init__(self, context: Context) -> None:
        self._context = context
        self._client: HttpClient | None = None

    async def send(self, alert: Alert) -> str:
        """Send the alert to all recipients; returns for whom Twilio queued it.

        Raises PartlyDelivered if it was queued for some of them; Undelivered that is `unclear` if it was queued for
        none and may have arrived at one.
        """
        secrets = self._secrets
        if not secrets.recipients:
            raise Undelivered("The section sms has no recipients.", _EDIT)
        text = compose_text(alert)
        outcomes = await asyncio.gather(
            *(self._send_to(number, text, secrets) for number in dict.fromkeys(secrets.recipients))
        )
        queued = [_ending(outcome.recipient) for outcome in outcomes if not outcome.words]
        failed = [outcome for outcome in outcomes if outcome.words]
        if not failed:
            return f"queued for {', '.join(queued)}"
        named = "; ".join(f"{_ending(one.recipient)}: {one.words}" for one in failed)
        if queued:
            raise PartlyDelivered(f"Queued for {', '.join(queued)} only. {named}", failed[0].remedy)
        unclear = [one for one in failed if one.unclear]
        raise Undelivered(
            named,
            (unclear or failed)[0].remedy,
            retry_after_s=max((one.retry_after_s or 0.0 for one in failed), default=0.0) or None,
            unclear=bool(unclear),
        )

    async def check_connection(self) -> str:
        """Read the account, which tries the token; nothing is sent."""
        try:
            answer = await self._http.get(f"/2010-04-01/Accounts/{self._secrets.account_sid}.json")
            document: Any = answer.json()
        except BrokerError as fault:
            words = _masked(fault.message, self._secrets)
            raise Undelivered(words, _remedy(fault), retry_after_s=fault.retry_after_s) from fault
        status = document.get("status") if isinstance(document, dict) else None
        if status != "active":
            raise Undelivered(f"The account at Twilio is {status or 'unknown'}, not active.", "See the Twilio console.")
        return f"the account is active, {plural(len(self._secrets.recipients), 'recipient')}"

    async def _send_to(self, number: str, text: str, secrets: TwilioCredentials) -> _Outcome:
        path = f"/2010-04-01/Accounts/{secrets.account_sid}/Messages.json"
        try:
            answer = await self._http.send("POST", path, form=message_form(text, secrets.sender, number))
        except BrokerError as fault:
            unclear = isinstance(fault, OutcomeUnknown)
            return _Outcome(number, _masked(fault.message, secrets), _remedy(fault), unclear, fault.retry_after_s)
        if answer.status != _QUEUED:
            return _Outcome(number, f"Twilio answered {answer.status}, not {_QUEUED}.", _UNCLEAR, unclear=True)
        return _Outcome(number)

    @property
    def _http(self) -> HttpClient:
        # Made at the first alert, in the event loop that sends. A request that Twilio refuses with 429 is not handled.
        if self._client is None:
            secrets = self._secrets
            login = b64encode(f"{secrets.account_sid}:{secrets.auth_token.reveal()}".encode()).decode()
            headers = {"authorization": f"Basic {login}"}
            self._client = self._context.connect.http("api", headers=headers, rejection=_rejection, rejects_429=True)
        return self._client

    @property
    def _secrets(self) -> TwilioCredentials:
        # Read at the first use, since a trial of the plugin has no secrets.
        found: TwilioCredentials = self._context.secrets["alert"]
        return found


def _ending(value: str) -> str:
    # Enough to tell numbers apart.
    return f"...{value[-4:]}"


def _masked(words: str, secrets: TwilioCredentials) -> str:
    # The path of a request has the account, and Twilio quotes numbers, with or without their plus.
    for value in (secrets.account_sid, secrets.sender, *secrets.recipients):
        words = words.replace(value, _ending(value)).replace(value.removeprefix("+"), _ending(value))
    return words


def _rejection(answer: HttpResponse) -> BrokerError:
    # Twilio refuses with a code that its documentation explains.
    try:
        document: Any = answer.json()
    except BrokerError:
        document = None
    found = document if isinstance(document, dict) else {}
    code, words = found.get("code"), found.get("message")
    where = f"https://www.twilio.com/docs/errors/{code} explains it; {_EDIT}" if isinstance(code, int) else _EDIT
    return Rejected(f"Twilio answered {answer.status}: {words if isinstance(words, str) else 'no reason'}.", where)


def _remedy(fault: BrokerError) -> str:
    if isinstance(fault, LoginNeeded):
        return _LOGIN
    return _UNCLEAR if isinstance(fault, OutcomeUnknown) else fault.remedy
