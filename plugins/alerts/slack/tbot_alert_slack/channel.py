"""The channel: one request to Slack for each alert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from tbot_alert_slack.message import EMPTY, LIMITED, UNCLEAR, compose_message, refusal
from tbot_alert_slack.threads import Threads
from tbot_core.errors import BrokerError, OutcomeUnknown, Rejected, Unavailable, Undelivered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_alert_slack import SlackCredentials
    from tbot_core.contracts import Alert, Context, HttpClient, HttpResponse

_INCOMPLETE: Final = "`tbot secrets edit alert`: give webhook_url, or bot_token and channel."
_LATER: Final = "It is sent again, so it may appear twice."
_SHOWN: Final = 200


class SlackChannel:
    """Posts as a bot where there is a token, else by the webhook."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._clients: dict[str, HttpClient] = {}
        self._threads = Threads(context.data_dir)

    async def send(self, alert: Alert) -> str:
        """Post the alert; returns where it was posted. The end of an incident goes into the thread of its alert."""
        slack = self._secrets
        if slack.bot_token is None:
            return await self._post_by_webhook(slack, compose_message(alert))
        message = {"channel": slack.channel, **compose_message(alert)}
        thread = self._threads.of(alert.key) if alert.resolved else None
        if thread is not None:
            message |= {"thread_ts": thread, "reply_broadcast": True}
        answer = await self._call("/chat.postMessage", message)
        posted = answer.get("ts")
        if not alert.resolved and isinstance(posted, str):
            self._threads.remember(alert.key, posted)
        return f"posted to {slack.channel}" + (", in its thread" if thread is not None else "")

    async def check_connection(self) -> str:
        """Try the bot token, or the webhook with an empty text, which Slack refuses after it has found the webhook."""
        slack = self._secrets
        if slack.bot_token is not None:
            answer = await self._call("/auth.test", {})
            return f"the bot {_line(answer.get('user'))} of {_line(answer.get('team'))}"
        try:
            await self._post(slack, {"text": ""})
        except _Refused as fault:
            if fault.error in EMPTY:
                return "the webhook exists"
            raise fault.undelivered from None
        raise Undelivered("The webhook accepted a message without a text.", refusal(""))

    async def _post_by_webhook(self, slack: SlackCredentials, message: Mapping[str, Any]) -> str:
        try:
            answer = await self._post(slack, message)
        except _Refused as fault:
            raise fault.undelivered from None
        if (words := answer.text.strip()) != "ok":
            raise Undelivered(f"The webhook answered {_line(words)!r}, not ok.", refusal(words))
        return "posted by the webhook"

    async def _post(self, slack: SlackCredentials, message: Mapping[str, Any]) -> HttpResponse:
        # To the webhook. Its path is the secret, and the client's messages quote it.
        if slack.webhook_url is None:
            raise Undelivered("The section slack has neither a webhook nor a bot token.", _INCOMPLETE)
        path = slack.webhook_url.reveal().removeprefix("https://hooks.slack.com")
        try:
            return await self._http("webhook").send("POST", path, json=message)
        except _Refused:
            raise
        except BrokerError as fault:
            fault.message = fault.message.replace(path, "/services/...")
            _raise(fault)

    async def _call(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        # A method of the Web API: 200 with `ok: false` is a failure.
        try:
            answer = await self._http("api").send("POST", method, json=body)
            document: Any = answer.json()
        except BrokerError as fault:
            _raise(fault)
        if not isinstance(document, dict) or document.get("ok") is not True:
            error = _line(document.get("error") if isinstance(document, dict) else "") or "no reason"
            words = f"Slack did not accept {method.removeprefix('/')}: {error}."
            raise Undelivered(words, _LATER if error in UNCLEAR | LIMITED else refusal(error))
        return document

    def _http(self, host: str) -> HttpClient:
        # Made at the first alert, in the event loop that sends. A request that Slack refuses with 429 is not handled.
        if host not in self._clients:
            token = self._secrets.bot_token if host == "api" else None
            headers = {} if token is None else {"authorization": f"Bearer {token.reveal()}"}
            self._clients[host] = self._context.connect.http(
                host, headers=headers, rejection=_Refused, rejects_429=True
            )
        return self._clients[host]

    @property
    def _secrets(self) -> SlackCredentials:
        # Read at the first use, since a trial of the plugin has no secrets.
        found: SlackCredentials = self._context.secrets["alert"]
        if found.bot_token is not None and not found.channel:
            raise Undelivered("The bot token has no channel.", _INCOMPLETE)
        return found


class _Refused(Rejected):
    # A refusal of Slack's, with its error: a webhook says it in plain text.
    def __init__(self, answer: HttpResponse) -> None:
        self.error = _line(answer.text) or "no reason"
        super().__init__(f"Slack answered {answer.status}: {self.error}.", refusal(self.error))

    @property
    def undelivered(self) -> Undelivered:
        return Undelivered(self.message, self.remedy)


def _raise(fault: BrokerError) -> NoReturn:
    # The failure of a request as that of the channel.
    remedy = fault.remedy
    if isinstance(fault, OutcomeUnknown):
        remedy = _LATER
    elif isinstance(fault, Unavailable) and fault.retry_after_s is not None:
        remedy = f"Slack asks for a pause of {fault.retry_after_s:g} s; it is sent again then."
    elif isinstance(fault, Rejected):
        remedy = remedy or refusal("invalid_auth")
    raise Undelivered(fault.message, remedy, retry_after_s=fault.retry_after_s) from None


def _line(words: object) -> str:
    return " ".join(str(words or "").split())[:_SHOWN]
