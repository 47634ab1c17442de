"""The one-time link by which the first admin is made: 256 bits, 30 minutes, from this machine only.

It is used up by the admin that it makes. A process that is killed before that leaves no admin: the next start makes
a new link. One that is killed after it leaves a link that is no longer valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.errors import UsageError
from tbot_core.system import random
from tbot_extension_web.access.login_rules import source_prefix

if TYPE_CHECKING:
    from tbot_extension_web.access.accounts import Account, Accounts
    from tbot_extension_web.access.login_store import LoginStore

VALID_S: Final = 1_800.0
_TOKEN_BYTES: Final = 32


class OneTimeLink:
    """The link of an instance without an admin; only its hash is stored."""

    def __init__(self, accounts: Accounts, store: LoginStore) -> None:
        self._accounts = accounts
        self._store = store

    def make(self) -> str | None:
        """A new token, to be shown once; the one before is no longer valid. None where an admin exists."""
        if self._accounts.has_admin:
            self._store.remove_link()
            return None
        token = random.entropy(_TOKEN_BYTES).hex()
        self._store.set_link(token)
        return token

    def is_valid(self, token: str, source: str) -> bool:
        """Whether the link may be used from this address; to show its page does not use it up."""
        age = self._store.link_age_s(token)
        return age is not None and age < VALID_S and not source_prefix(source) and not self._accounts.has_admin

    async def make_admin(self, token: str, source: str, name: str, password: str) -> Account:
        """Use the link: make the first admin.

        Raises UsageError for a link that is not valid, and for a name or password that is not allowed: the link stays
        valid then.
        """
        if not self.is_valid(token, source):
            raise UsageError("The link is not valid (any more).", "Start `tbot web` again: it prints a new one.")
        account = await self._accounts.add_first_admin(name, password)
        self._store.remove_link()
        return account
