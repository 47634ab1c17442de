"""A mail as it is sent, and the server that takes it."""

from __future__ import annotations

from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from tbot_core.contracts.permissions import GIVEN
from tbot_core.errors import PluginError
from tbot_core.system import random
from tbot_core.system.smtp import MailServer, OutgoingMail

if TYPE_CHECKING:
    from datetime import datetime

    from tbot_core.contracts.network import Mail
    from tbot_core.contracts.permissions import Host

_HERE: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_SUBMISSION: Final = {"smtp": 587, "smtps": 465}


def mail_server(name: str, declared: Host, given: str, loopback: str) -> MailServer:
    """The server of a declared host: the one that it names, or the `given` one, or `loopback` in a rehearsal.

    `name` is that of plugin and host. Raises PluginError for a host of another kind, and for a server that does not fit
    the declaration.
    """
    there = urlsplit(declared.url)
    if there.scheme not in _SUBMISSION:
        raise PluginError(f"{name} is declared as {declared.url}, not with smtp or smtps.")
    is_open = there.netloc == GIVEN
    if bool(given) != is_open:
        what = "names no mail server" if is_open else f"names {given}, but declares {declared.url}"
        raise PluginError(f"{name} {what}.", "Only a host declared as smtp://* or smtps://* is named when it is used.")
    if loopback:
        here = urlsplit(loopback)
        return MailServer(host=here.hostname or "", port=here.port or _SUBMISSION[there.scheme], plain=True)
    parts = urlsplit(f"//{given}") if is_open else there
    try:
        host, port = parts.hostname, parts.port or _SUBMISSION[there.scheme]
    except ValueError:
        host, port = None, 0
    if not host or parts.path or "@" in parts.netloc:
        raise PluginError(f"{name}: {given!r} is no mail server.", "Give NAME or NAME:PORT.")
    return MailServer(host=host, port=port, tls=there.scheme == "smtps")


def without_tls(name: str, server: MailServer) -> MailServer:
    """The same server, without TLS; raises PluginError for one that is not on this machine."""
    if server.host not in _HERE:
        raise PluginError(
            f"{name}: a mail to {server.host} would leave this machine without TLS.",
            "Use STARTTLS or TLS; only a mail server on this machine is reached without.",
        )
    return attrs.evolve(server, tls=False, plain=True)


def outgoing_mail(mail: Mail, now: datetime) -> OutgoingMail:
    """The mail with its headers, in ASCII."""
    message = EmailMessage(policy=SMTP)
    message["From"] = Address(addr_spec=mail.sender)
    message["To"] = tuple(Address(addr_spec=recipient) for recipient in mail.recipients)
    message["Subject"] = mail.subject
    message["Date"] = now
    message["Auto-Submitted"] = "auto-generated"  # so that nobody is told by an automatic reply
    message["Message-ID"] = mail.message_id or f"<{random.token(16)}@{mail.sender.partition('@')[2]}>"
    if mail.answers:
        message["In-Reply-To"] = message["References"] = mail.answers
    message.set_content(mail.text, cte="quoted-printable")
    return OutgoingMail(sender=mail.sender, recipients=mail.recipients, content=message.as_bytes())
