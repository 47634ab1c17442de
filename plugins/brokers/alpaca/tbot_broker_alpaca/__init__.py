"""The broker Alpaca: what it offers, needs and is configured with."""

from typing import Any, Final

import attrs

from tbot_core.contracts import Context, FeedQuality, Host, Plugin, PluginNeeds, SecretValue
from tbot_core.contracts.credentials import hidden_field, shown_field
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.setting import choice, optional, setting, text

_ADDRESS: Final = text(
    pattern=r"(?:https://[^\s]{1,2000}|http://(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?(?:/[^\s]{0,2000})?)",
    allowed="an address that begins with https://, on this machine also with http://",
)
_ACCOUNT: Final = text(pattern=r"[A-Za-z0-9_-]{0,40}", allowed="letters, digits and dashes")
BASIC_SYMBOLS: Final = 30
"""The symbols that one connection may subscribe on the basic plan."""


@attrs.frozen(kw_only=True)
class Credentials:
    """The plugin's section of the category `broker`: `tbot secrets set broker` asks for it."""

    api_key: SecretValue = hidden_field(
        doc="Key of the account.", aliases=("key", "key_id", "api_key_id", "apca_api_key_id")
    )
    api_secret: SecretValue = hidden_field(
        doc="Secret of the key.", aliases=("secret", "secret_key", "api_secret_key", "apca_api_secret_key")
    )
    mode: str = shown_field(choice("paper", "live"), default="paper", doc="Which of the broker's hosts is used.")
    account_id: str = shown_field(_ACCOUNT, default="", doc="Account that the broker must report; empty for any.")
    base_url: str | None = shown_field(
        optional(_ADDRESS),
        default="",
        doc="Address in place of the usual one, version included.",
        aliases=("api_base_url", "url"),
    )


@attrs.frozen(kw_only=True)
class Config:
    """`data_feed`: the trades that bars and quotes cover."""

    data_feed: str = setting(
        "ALPACA_DATA_FEED",
        choice("iex", "sip"),
        default="iex",
        doc="Source of bars and quotes: iex (one venue, every plan) or sip (all venues, paid plan).",
    )


NEEDS: Final = PluginNeeds(
    secrets={"broker": Credentials},
    hosts={
        "paper": Host("https://paper-api.alpaca.markets", requests_per_minute=200),
        "live": Host("https://api.alpaca.markets", requests_per_minute=200),
        "data": Host("https://data.alpaca.markets", requests_per_minute=200),
        "paper_events": Host("wss://paper-api.alpaca.markets"),
        "live_events": Host("wss://api.alpaca.markets"),
        "stream": Host("wss://stream.data.alpaca.markets"),
    },
    orders=True,
)


@hookimpl
def tbot_broker() -> Plugin:
    """Offer the broker; the client is imported when it is created."""
    return Plugin(
        name="alpaca",
        summary="Alpaca, paper and live",
        config=Config,
        create=_create,
        needs=NEEDS,
        venue=_venue,
        capabilities=frozenset({"feed"}),
        quality=quality,
    )


def quality(config: Config) -> FeedQuality:
    """The quality of the feed that is configured, on the plan that offers it."""
    single = config.data_feed == "iex"
    return FeedQuality(
        coverage="single_venue" if single else "consolidated",
        subscriptions=BASIC_SYMBOLS if single else 0,
        quotes=True,
        halts=True,
        initial_halts=False,
    )


def _create(config: Config, context: Context) -> Any:
    from tbot_broker_alpaca.broker import AlpacaBroker

    return AlpacaBroker(config, context)


def _venue(*place: Any) -> Any:
    from tbot_broker_alpaca.venue import open_venue

    return open_venue(*place)
