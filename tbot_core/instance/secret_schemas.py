"""What the categories of secrets hold, as the core knows it: so content is judged before its plugin is there.

A plugin's own declaration takes precedence where the plugin is installed and enabled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts.credentials import SecretValue, entries, entry, hidden, several
from tbot_core.contracts.setting import Declared, boolean, choice, integer, optional, path, text
from tbot_core.model.identity import ALLOWED, FIELD, PATTERN, SHORT
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.schemas import key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_core.vault.schemas import Schemas

_MODE = choice("paper", "live")
_ACCOUNT = text(pattern=r"[A-Za-z0-9_-]{0,40}", allowed="letters, digits and dashes")
_HOST = text(pattern=r"[A-Za-z0-9.:_-]{1,253}", allowed="a host's name or address")
_PORT = integer(least=1, most=65_535)
_PHONE = text(pattern=r"\+[1-9][0-9]{6,14}", allowed="a telephone number as in +12025550123")
_ADDRESS = text(pattern=r"(?:[^@\s]{1,64}@[^@\s]{1,253})?", allowed="an address as in bot@example.com")
_USER = text(pattern=r"[^\x00-\x1f\x7f]{0,320}")
_BASE = "Address in place of the usual one, version included."
_URL = text(pattern=r"https?://[^\s]{1,2000}", allowed="an address that begins with https://")


@attrs.frozen(kw_only=True)
class BotIdentity:
    """Who the bot is."""

    identity: str = entry(
        text(pattern=PATTERN.pattern, allowed=ALLOWED), name=FIELD, doc=f"The bot's identity, {SHORT}."
    )


@attrs.frozen(kw_only=True)
class Network:
    """Where the web page listens."""

    host: str = entry(_HOST, default="127.0.0.1", doc="Address that is listened on.", aliases=("bind", "address"))
    port: int = entry(_PORT, default="8443", doc="Port that is listened on.")
    certificate: str | None = entry(
        optional(path()), default="", doc="Certificate in PEM, with its chain.", aliases=("tls_certificate", "tls_cert")
    )
    private_key: str | None = entry(
        optional(path()), default="", doc="The certificate's key in PEM.", aliases=("tls_private_key", "tls_key")
    )
    hosts: tuple[str, ...] = entry(
        several("names"), default="", doc="Names under which the page may be asked for.", aliases=("allowed_hosts",)
    )
    public: bool = entry(boolean(), default="false", doc="Whether others than this machine may reach the page.")


@attrs.frozen(kw_only=True)
class _User:
    hash: SecretValue = hidden(doc="Hash of the password (argon2id).", aliases=("password_hash",))
    role: str = entry(choice("viewer", "trader", "admin"), default="viewer", doc="What the user may do.")
    totp: SecretValue | None = hidden(doc="Secret of the one-time passwords.", optional=True, aliases=("totp_secret",))


@attrs.frozen(kw_only=True)
class _Alpaca:
    api_key: SecretValue = hidden(doc="Key of the account.", aliases=("key", "key_id", "api_key_id", "apca_api_key_id"))
    api_secret: SecretValue = hidden(
        doc="Secret of the key.",
        aliases=("secret", "secret_key", "api_secret_key", "apca_api_secret_key"),
    )
    mode: str = entry(_MODE, default="paper", doc="Which of the broker's hosts is used.")
    account_id: str = entry(_ACCOUNT, default="", doc="Account that the broker must report; empty for any.")
    base_url: str | None = entry(optional(_URL), default="", doc=_BASE, aliases=("api_base_url", "url"))


@attrs.frozen(kw_only=True)
class _Ibkr:
    host: str = entry(_HOST, default="127.0.0.1", doc="Host of the gateway.")
    port: int = entry(_PORT, default="4002", doc="Port of the gateway's socket.")
    client_id: int = entry(integer(most=999), default="1", doc="Number of this client at the gateway.")
    mode: str = entry(_MODE, default="paper", doc="Which kind of account the gateway must report.")
    account_id: str = entry(
        _ACCOUNT, default="", doc="Account that the gateway must report; empty for the only one.", aliases=("account",)
    )


@attrs.frozen(kw_only=True)
class _Tradier:
    access_token: SecretValue = hidden(doc="Token of the account.", aliases=("token", "api_token", "api_key"))
    mode: str = entry(_MODE, default="paper", doc="Which of the broker's hosts is used.")
    account_id: str = entry(
        _ACCOUNT, default="", doc="Account that the broker must report; empty for the only one.", aliases=("account",)
    )
    base_url: str | None = entry(optional(_URL), default="", doc=_BASE, aliases=("api_base_url", "url"))


@attrs.frozen(kw_only=True)
class _Finnhub:
    api_key: SecretValue = hidden(doc="Key of the account.", aliases=("token", "key"))
    base_url: str | None = entry(optional(_URL), default="", doc=_BASE, aliases=("api_base_url", "url"))


@attrs.frozen(kw_only=True)
class _Smtp:
    host: str = entry(_HOST, doc="Mail server.", aliases=("server", "smtp_host", "smtp_server"))
    port: int = entry(_PORT, default="587", doc="Its port.", aliases=("smtp_port",))
    security: str = entry(choice("starttls", "tls", "none"), default="starttls", doc="How the connection is encrypted.")
    user: str = entry(
        _USER,
        default="",
        doc="Name to log in with; empty for no login.",
        aliases=("username", "login", "smtp_user"),
    )
    password: SecretValue | None = hidden(doc="Its password.", optional=True, aliases=("smtp_password",))
    sender: str = entry(
        _ADDRESS, default="", doc="Sender of mail; empty for the user.", aliases=("from", "from_address")
    )
    recipients: tuple[str, ...] = entry(
        several("addresses"), default="", doc="Who gets mail; empty for the sender.", aliases=("to", "recipient")
    )


@attrs.frozen(kw_only=True)
class _Accounting:
    url: str | None = entry(
        optional(_URL),
        default="",
        doc="Address of the service; empty for its usual one.",
        aliases=("base_url", "endpoint"),
    )
    api_key: SecretValue | None = hidden(doc="Key of the account.", optional=True, aliases=("key", "token"))
    user: str = entry(
        _USER, default="", doc="Name to log in with, where there is no key.", aliases=("username", "login")
    )
    password: SecretValue | None = hidden(doc="Its password.", optional=True)


@attrs.frozen(kw_only=True)
class _Slack:
    webhook_url: SecretValue = hidden(doc="Address that messages are posted to.", aliases=("webhook", "url"))


@attrs.frozen(kw_only=True)
class _Sms:
    account_sid: str = entry(text(pattern=r"[A-Za-z0-9]{2,64}", allowed="letters and digits"), doc="Account at Twilio.")
    auth_token: SecretValue = hidden(doc="Token of the account.", aliases=("token",))
    sender: str = entry(_PHONE, doc="Number that sends.", aliases=("from", "from_number"))
    recipients: tuple[str, ...] = entry(
        several("telephone numbers"), doc="Numbers that get it.", aliases=("to", "to_number")
    )


@attrs.frozen(kw_only=True)
class _PagerDuty:
    routing_key: SecretValue = hidden(doc="Integration key of the service.", aliases=("integration_key", "key"))


@attrs.frozen(kw_only=True)
class _Apprise:
    urls: SecretValue = hidden(doc="Addresses in Apprise's form, separated by blanks.", aliases=("url",))


HOLDERS = (
    Declared(kind="core", name="core", secrets={"bot_identity": BotIdentity}),
    Declared(kind="extension", name="web", secrets={"login": _User, "network": Network}),
    Declared(kind="extension", name="accounting", secrets={"acct_api": _Accounting}),
    Declared(kind="broker", name="alpaca", secrets={"broker": _Alpaca}),
    Declared(kind="broker", name="ibkr", secrets={"broker": _Ibkr}),
    Declared(kind="broker", name="tradier", secrets={"broker": _Tradier}),
    Declared(kind="filter", name="finnhub", secrets={"screener_api": _Finnhub}),
    Declared(kind="alert", name="email", secrets={"smtp": _Smtp}),
    Declared(kind="alert", name="slack", secrets={"alert": _Slack}),
    Declared(kind="alert", name="sms", secrets={"alert": _Sms}),
    Declared(kind="alert", name="pagerduty", secrets={"alert": _PagerDuty}),
    Declared(kind="alert", name="apprise", secrets={"alert": _Apprise}),
)


def table() -> str:
    """Every field that the core knows, as a Markdown table, for the reference."""
    rows = ["| Category | Section | Field | Allowed | Default | Meaning | Also spelt |", f"|{'---|' * 7}"]
    for (category, section), schema in schemas().items():
        place = section or ("each user" if category == "login" else "")
        for one in entries(schema).values():
            default = "must be given" if one.default_text is None else one.default_text or "empty"
            words = (one.kind.allowed, default, one.doc, ", ".join(one.aliases))
            rows.append(f"| {category} | {place} | {one.name} | {' | '.join(words)} |")
    return "\n".join(rows)


def schemas(declared: Iterable[Declared] = ()) -> Schemas:
    """The class of each category, and of each plugin's section in it; what a plugin declares itself comes first."""
    return {
        key(category, one.name): schema
        for one in (*HOLDERS, *declared)
        for category, schema in one.secrets.items()
        if schema is not None and category in CATEGORIES
    }
