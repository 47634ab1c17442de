"""The categories of secrets: key, file, logical name and shape of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

import attrs

from tbot_core.errors import VaultError
from tbot_core.system import environ
from tbot_core.system.redaction import hide_keys, is_shaped_like_secret

if TYPE_CHECKING:
    from tbot_core.contracts.settings import DeploymentSettings

Shape = Literal["text", "sections", "object"]
"""Settings; an object with one object per plugin or user; one object of fields."""

ENV_KEY_VARIABLE: Final = "TBOT_ENV_ENC_KEY_PATH"
_ENV_KEY_PATH: Final = "storage/keys/env_enc.key"
ENV_FILE: Final = ".env.enc"
AUDIT: Final = "audit"
"""The key of the audit log is stored among the keys; the category has no secrets file."""

_AUDIT_KEY_PATH: Final = "storage/keys/audit.key"
EVERY: Final = "every category"
"""The name for all categories in messages and in the audit log."""

CONTROL, JOURNAL, PAGE, SETUP = "control", "journal", "page", "setup"
"""What else the audit log is about: requests to the bot, the key of the journal, the web page, a set-up's draft."""


class HasHome(Protocol):
    """The part of an instance that the vault needs: its folder."""

    @property
    def home(self) -> Path:
        """The instance's folder."""


@attrs.frozen(kw_only=True)
class SecretCategory:
    """One kind of secret: the `DeploymentSettings` fields with its key and file paths, and its token context.

    `logical` never changes, so a file may be moved or renamed; `suffix` is added to the path in the field.
    """

    name: str
    key_field: str
    file_field: str | None
    logical: str
    shape: Shape
    suffix: str = ""

    @property
    def by_plugin(self) -> bool:
        """Whether its sections belong to plugins; the sections of `login` belong to users."""
        return self.shape == "sections" and self.name != "login"


@attrs.frozen(kw_only=True)
class CategoryPaths:
    """The paths of a category's key and file; `home` only shortens them in messages."""

    category: str
    logical: str
    key: Path
    file: Path
    home: Path

    def shown(self, path: Path) -> str:
        """The path for messages: relative to the instance if inside it; a key in place of a path is not shown."""
        return hide_keys(str(path.relative_to(self.home)) if path.is_relative_to(self.home) else str(path))


CATEGORIES: Final[dict[str, SecretCategory]] = {
    it.name: it
    for it in (
        SecretCategory(name="env", key_field="env_enc_key_path", file_field=None, logical="env", shape="text"),
        SecretCategory(
            name="env_bot",
            key_field="env_key_path",
            file_field="env_bot_path",
            logical="env_bot",
            shape="text",
            suffix=".enc",
        ),
        SecretCategory(
            name="login", key_field="login_key_path", file_field="login_path", logical="login.json", shape="sections"
        ),
        SecretCategory(
            name="broker",
            key_field="broker_key_path",
            file_field="broker_credentials_path",
            logical="broker_credentials.json",
            shape="sections",
        ),
        SecretCategory(
            name="screener_api",
            key_field="screener_api_key_path",
            file_field="screener_api_path",
            logical="screener_api.json",
            shape="sections",
        ),
        SecretCategory(
            name="alert",
            key_field="alert_key_path",
            file_field="alert_channels_path",
            logical="alert_channels.json",
            shape="sections",
        ),
        SecretCategory(
            name="smtp",
            key_field="smtp_key_path",
            file_field="smtp_credentials_path",
            logical="smtp_credentials.json",
            shape="object",
        ),
        SecretCategory(
            name="acct_api",
            key_field="acct_api_key_path",
            file_field="acct_api_credentials_path",
            logical="acct_api_credentials.json",
            shape="object",
        ),
        SecretCategory(
            name="network",
            key_field="network_key_path",
            file_field="network_config_path",
            logical="network_config.json",
            shape="object",
        ),
        SecretCategory(
            name="bot_identity",
            key_field="bot_identity_key_path",
            file_field="bot_identity_path",
            logical="bot_identity.json",
            shape="object",
        ),
    )
}
"""Every category by name, in the order in which a start opens them."""

AUDITED: Final = (*CATEGORIES, EVERY, AUDIT, CONTROL, JOURNAL, PAGE, SETUP)
"""Every category that a line of the audit log can have."""


def category_paths(category: str, instance: HasHome, deployment: DeploymentSettings) -> CategoryPaths:
    """The paths of a category; raises KeyError for an unknown category.

    The key path of `.env.enc` comes only from TBOT_ENV_ENC_KEY_PATH, because the settings are inside that file.
    """
    kind, home = CATEGORIES[category], instance.home
    key = _env_key() if category == "env" else getattr(deployment, kind.key_field)
    file = ENV_FILE if kind.file_field is None else f"{getattr(deployment, kind.file_field)}{kind.suffix}"
    return CategoryPaths(category=category, logical=kind.logical, key=home / key, file=home / file, home=home)


def env_key_disagrees(instance: HasHome, deployment: DeploymentSettings) -> bool:
    """Whether ENV_ENC_KEY_PATH names another file than the one that opens `.env.enc` at a start."""
    path = deployment.env_enc_key_path
    return path != _ENV_KEY_PATH and instance.home / _env_key() != instance.home / path


def _env_key() -> str:
    path = environ.variable(ENV_KEY_VARIABLE) or _ENV_KEY_PATH
    if is_shaped_like_secret(path):
        raise VaultError(
            f"The variable {ENV_KEY_VARIABLE} is shaped like a secret, which is not shown; allowed is a path.",
            "Put the key into a file, and the file's path into the variable.",
        )
    return path


def audit_paths(instance: HasHome) -> CategoryPaths:
    """The paths of the audit log and its key."""
    home = instance.home
    return CategoryPaths(
        category=AUDIT, logical="audit.log", key=home / _AUDIT_KEY_PATH, file=home / "data" / "audit.log", home=home
    )
