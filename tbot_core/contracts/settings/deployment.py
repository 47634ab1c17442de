"""The global configuration: the file paths of an instance, and the rules of web logins."""

from __future__ import annotations

import attrs

from tbot_core.contracts.setting import Permits, choice, duration, integer, minutes, path, setting


def _stored(name: str, default: str, doc: str) -> str:
    return setting(name, path(), default=default, doc=doc, file=".env", changes_trades=False)


@attrs.frozen(kw_only=True)
class DeploymentSettings:
    """The settings in `.env`. A path is relative to the folder of the instance, unless it is absolute."""

    environment: str = setting(
        "ENVIRONMENT",
        choice("production", "development"),
        default="production",
        doc="Production refuses (in live trading) loose file modes, plaintext beside encrypted files and debuggers, "
        "and otherwise warns about them; development does not allow live trading.",
        file=".env",
        changes_trades=False,
        permits=Permits("unless", ("production",), why="Loose file modes and debuggers are no longer refused."),
    )
    control_dir: str = setting(
        "CONTROL_DIR",
        path(),
        default="control",
        doc="Control folder: requests to the running bot, mode 0700.",
        file=".env",
        changes_trades=False,
        permits=Permits(why="Requests to the bot are read from another folder."),
    )
    env_bot_path: str = setting(
        "ENV_BOT_PATH",
        path(),
        default=".env_bot",
        doc="The trading configuration; its encrypted form has the same path and .enc.",
        file=".env",
        changes_trades=False,
    )
    env_key_path: str = _stored("ENV_KEY_PATH", "storage/keys/env.key", "Key of the encrypted trading configuration.")
    env_enc_key_path: str = _stored(
        "ENV_ENC_KEY_PATH", "storage/keys/env_enc.key", "Key of the encrypted global configuration."
    )
    login_key_path: str = _stored("LOGIN_KEY_PATH", "storage/keys/login.key", "Key of the file of users.")
    broker_key_path: str = _stored("BROKER_KEY_PATH", "storage/keys/broker.key", "Key of the brokers' credentials.")
    smtp_key_path: str = _stored("SMTP_KEY_PATH", "storage/keys/smtp.key", "Key of the mail server's credentials.")
    screener_api_key_path: str = _stored(
        "SCREENER_API_KEY_PATH", "storage/keys/screener_api.key", "Key of the screeners' and data sources' credentials."
    )
    acct_api_key_path: str = _stored(
        "ACCT_API_KEY_PATH", "storage/keys/acct_api.key", "Key of the accounting service's credentials."
    )
    alert_key_path: str = _stored("ALERT_KEY_PATH", "storage/keys/alert.key", "Key of the alert channels' credentials.")
    network_key_path: str = _stored("NETWORK_KEY_PATH", "storage/keys/network.key", "Key of the network configuration.")
    bot_identity_key_path: str = _stored(
        "BOT_IDENTITY_KEY_PATH", "storage/keys/bot_identity.key", "Key of the bot's identity."
    )
    broker_credentials_path: str = _stored(
        "BROKER_CREDENTIALS_PATH",
        "storage/secrets/broker_credentials.json.enc",
        "Encrypted credentials of the brokers.",
    )
    smtp_credentials_path: str = _stored(
        "SMTP_CREDENTIALS_PATH",
        "storage/secrets/smtp_credentials.json.enc",
        "Encrypted credentials of the mail server.",
    )
    screener_api_path: str = _stored(
        "SCREENER_API_PATH",
        "storage/secrets/screener_api.json.enc",
        "Encrypted credentials of screeners and data sources.",
    )
    acct_api_credentials_path: str = _stored(
        "ACCT_API_CREDENTIALS_PATH",
        "storage/secrets/acct_api_credentials.json.enc",
        "Encrypted credentials of the accounting service.",
    )
    network_config_path: str = _stored(
        "NETWORK_CONFIG_PATH",
        "storage/secrets/network_config.json.enc",
        "Encrypted network configuration of the web page.",
    )
    alert_channels_path: str = _stored(
        "ALERT_CHANNELS_PATH", "storage/secrets/alert_channels.json.enc", "Encrypted credentials of the alert channels."
    )
    bot_identity_path: str = _stored(
        "BOT_IDENTITY_PATH", "storage/secrets/bot_identity.json.enc", "Encrypted identity of the bot."
    )
    login_path: str = _stored(
        "LOGIN_PATH", "storage/secrets/login.json.enc", "Encrypted file of users: hash, role and one-time password."
    )
    session_timeout: float = setting(
        "SESSION_TIMEOUT",
        duration(least="30s", most="24h", bare="s"),
        default="3000",
        doc="Idle time in seconds after which a web login expires.",
        file=".env",
        changes_trades=False,
        permits=Permits("larger", why="A login on the page lasts longer."),
    )
    session_timeout_minutes: int = setting(
        "SESSION_TIMEOUT_MINUTES",
        minutes(least=1, most=10_080),
        default="120",
        doc="Minutes after which a web login expires in any case.",
        file=".env",
        changes_trades=False,
        permits=Permits("larger", why="A login on the page lasts longer."),
    )
    login_attempt_limit: int = setting(
        "LOGIN_ATTEMPT_LIMIT",
        integer(least=1, most=1000),
        default="10",
        doc="Failed logins after which a user is locked out of the web page.",
        file=".env",
        changes_trades=False,
        permits=Permits("larger", why="More passwords may be tried before a lock."),
    )
    login_lockout_minutes: int = setting(
        "LOGIN_LOCKOUT_MINUTES",
        minutes(least=1, most=10_080),
        default="15",
        doc="Minutes that a lock-out of the web page lasts.",
        file=".env",
        changes_trades=False,
        permits=Permits("smaller", why="A lock ends earlier, so more passwords may be tried."),
    )
    secrets_write_format: str = setting(
        "SECRETS_WRITE_FORMAT",
        choice("aes-256-gcm", "fernet"),
        default="aes-256-gcm",
        doc="Format in which encrypted files are written; both formats are read.",
        file=".env",
        changes_trades=False,
        permits=Permits("unless", ("aes-256-gcm",), why="Secrets are written with a weaker cipher."),
    )
    keep_prev_days: int = setting(
        "KEEP_PREV_DAYS",
        integer(least=0, most=3650),
        default="30",
        doc="Days that a previous key and its file are kept after a rotation.",
        file=".env",
        changes_trades=False,
    )
