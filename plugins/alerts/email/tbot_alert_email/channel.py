"""The channel: one mail for each alert, by the server of the secrets `smtp`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from tbot_alert_email.message import compose_mail
from tbot_core.contracts.network import MAIL_ADDRESS
from tbot_core.errors import BrokerError, LoginNeeded, OutcomeUnknown, PartlyDelivered, TbotError, Undelivered

if TYPE_CHECKING:
    from tbot_alert_email import SmtpCredentials
    from tbot_core.contracts import Alert, Context

_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}
_EDIT: Final = "`tbot secrets edit smtp` corrects it."


class EmailChannel:
    """Sends alerts as mails."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def send(self, alert: Alert) -> str:
        """Send the alert to all recipients; returns who accepted it.

        Raises PartlyDelivered, with the refused ones and the server's words, if only some were accepted.
        """
        smtp = self._smtp
        mail = compose_mail(alert, *_addresses(smtp))
        try:
            refused = await self._context.connect.mail(_host(smtp), mail, **_login(smtp))
        except TbotError as fault:
            raise _undelivered(fault) from fault
        accepted = [recipient for recipient in mail.recipients if recipient not in refused]
        if refused:
            named = ", ".join(f"{one} ({words})" for one, words in refused.items())
            raise PartlyDelivered(f"Refused for {named}; delivered to {', '.join(accepted)}.", _EDIT)
        return f"accepted by {_server(smtp)} for {', '.join(accepted)}"

    async def check_connection(self) -> str:
        """Connect and log in without sending anything; returns what the server answered."""
        smtp = self._smtp
        _addresses(smtp)
        try:
            reply = await self._context.connect.check_mail(_host(smtp), **_login(smtp))
        except TbotError as fault:
            raise _undelivered(fault) from fault
        return f"{_server(smtp)}, {'logged in' if smtp.user else 'without a login'}: {reply}"

    @property
    def _smtp(self) -> SmtpCredentials:
        # Read at the first use, since a trial of the plugin has no secrets.
        found: SmtpCredentials = self._context.secrets["smtp"]
        return found


def _undelivered(fault: TbotError) -> Undelivered:
    remedy = fault.remedy
    if isinstance(fault, LoginNeeded):
        remedy = "Correct user and password with `tbot secrets edit smtp`; some providers demand an app password."
    elif isinstance(fault, OutcomeUnknown):
        remedy = "The mail may have arrived; it is sent again under the same Message-ID."
    pause = fault.retry_after_s if isinstance(fault, BrokerError) else None
    return Undelivered(fault.message, remedy, retry_after_s=pause)


def _addresses(smtp: SmtpCredentials) -> tuple[str, tuple[str, ...]]:
    # Sender and recipients of a mail. Raises Undelivered for what is no address.
    sender = smtp.sender or smtp.user
    recipients = smtp.recipients or (sender,)
    for name, address in (("sender", sender), *(("recipient", recipient) for recipient in recipients)):
        if not re.fullmatch(MAIL_ADDRESS, address):
            words = f"The secrets smtp are not complete: {name} must be an address such as me@example.com"
            raise Undelivered(f"{words}, not {address!r}.", _EDIT)
    return sender, recipients


def _host(smtp: SmtpCredentials) -> str:
    return "tls" if smtp.security == "tls" else "starttls"


def _login(smtp: SmtpCredentials) -> dict[str, Any]:
    plain = smtp.security == "none"
    return {"server": _server(smtp), "user": smtp.user, "password": smtp.password, "plain": plain}


def _server(smtp: SmtpCredentials) -> str:
    # The host may have a port of its own, and an IPv6 address needs brackets beside a port.
    if smtp.host.count(":") == 1:
        return smtp.host
    host = f"[{smtp.host}]" if ":" in smtp.host else smtp.host
    return f"{host}:{smtp.port or _PORTS[smtp.security]}"
