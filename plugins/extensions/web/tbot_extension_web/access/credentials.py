"""What is stored of a user: the fields of a section of the category `login`, and the roles."""

from __future__ import annotations

from enum import StrEnum

import attrs

from tbot_core.contracts import SecretValue
from tbot_core.contracts.credentials import hidden_field, shown_field
from tbot_core.contracts.setting import choice


class Role(StrEnum):
    """The roles, each with the rights of those before it."""

    VIEWER = "viewer"
    TRADER = "trader"
    ADMIN = "admin"


@attrs.frozen(kw_only=True)
class LoginCredentials:
    """A user's section of the category `login`; the section's name is the user's."""

    hash: SecretValue = hidden_field(doc="Hash of the password (argon2id).", aliases=("password_hash",))
    role: str = shown_field(choice(*Role), default="viewer", doc="What the user may do.")
    totp: SecretValue | None = hidden_field(
        optional=True, doc="Secret of the one-time passwords.", aliases=("totp_secret",)
    )
    recovery: SecretValue | None = hidden_field(optional=True, doc="Hashes of the recovery codes that are not used.")
