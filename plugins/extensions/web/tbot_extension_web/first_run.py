"""What the page needs beside the usual until an admin exists and its folder is an instance."""

from __future__ import annotations

import attrs

from tbot_extension_web.access.accounts import Accounts
from tbot_extension_web.access.login_store import LoginStore
from tbot_extension_web.access.one_time_link import OneTimeLink
from tbot_extension_web.access.passwords import PasswordHasher


@attrs.frozen(kw_only=True)
class FirstRun:
    """The accounts, the link of the first admin, and the parts of the login that stay when the accounts are reopened.

    `port` is that of the command line, None for that of network_config.
    """

    accounts: Accounts
    link: OneTimeLink
    store: LoginStore
    hasher: PasswordHasher
    port: int | None = None
