"""The accounts of the web page: users in the vault's category `login`, one section each."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NoReturn, ParamSpec, TypeVar

import attrs

from tbot_core.errors import AccessError, SettingsError, UsageError
from tbot_core.instance.secrets import encrypt_category
from tbot_core.system import filesystem
from tbot_core.system.secret import Secret
from tbot_core.vault import schemas
from tbot_extension_web.access.credentials import LoginCredentials, Role
from tbot_extension_web.access.password_rules import check_password
from tbot_extension_web.access.second_factor import is_totp_secret, recovery_hash
from tbot_extension_web.access.waiting_requests import WaitingRequests

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_extension_web.access.passwords import PasswordHasher
    from tbot_extension_web.access.security_log import SecurityLog

P = ParamSpec("P")
T = TypeVar("T")

CATEGORY: Final = "login"
USER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,31}")

_TRIES: Final = 10
_SET_UP: Final = "setup"


@attrs.frozen(kw_only=True)
class Account:
    """A user; `recovery` are the hashes of the recovery codes that are not used."""

    name: str
    role: Role
    hash: Secret = attrs.field(eq=False)
    totp: Secret | None = attrs.field(default=None, eq=False)
    recovery: tuple[str, ...] = attrs.field(default=(), repr=False)

    @property
    def stamp(self) -> str:
        """What a session is bound to: it ends when the password, the role or the one-time codes change."""
        totp = "" if self.totp is None else self.totp.inspect()
        return sha256(f"{self.name} {self.role} {self.hash.inspect()} {totp}".encode()).hexdigest()


Edit = Callable[[dict[str, Account]], None]


def user_name(text: str) -> str:
    """A user's name as it is stored; raises UsageError for one that is not allowed."""
    name = text.strip().casefold()
    if USER_NAME.fullmatch(name) is None:
        raise UsageError(
            "A user's name has 2 to 32 characters: letters a to z, digits, dot, hyphen and underscore.",
            "Begin it with a letter or a digit.",
        )
    if name == _SET_UP:
        raise UsageError(f"{_SET_UP} is what the first run is called in the log.", "Choose another name.")
    return name


class Accounts:
    """Reads and changes the accounts of one instance; each change is atomic and recorded with the acting user.

    `words` are those that a password must not consist of, as the bot's identity. Without roles every user is an admin.
    Another user's account is changed by who is an admin when it is written. Changes raise UsageError for what is not
    allowed, and VaultError or AccessError when the file cannot be read or written: nothing is changed then.
    """

    def __init__(
        self, log: SecurityLog, hasher: PasswordHasher, words: Iterable[str] = (), *, with_roles: bool = True
    ) -> None:
        self._log = log
        self._with_roles = with_roles
        self._hasher = hasher
        self._words = tuple(words)
        self._requests = WaitingRequests(log, with_roles=with_roles)
        self._read: tuple[object, Mapping[str, Account]] = (None, {})

    def read(self) -> Mapping[str, Account]:
        """The accounts by name. Raises VaultError.

        The file is opened when it changed, by whatever process; requests to the bot that wait and that their users may
        no longer make are refused then.
        """
        return self._read_for("")

    def _read_for(self, actor: str) -> Mapping[str, Account]:
        revision = filesystem.revision(self._file)
        if revision is None:
            return {}
        if self._read[0] != revision:
            self._read = (revision, _load(self._log))
        self._requests.judge(revision, {name: one.role for name, one in self._read[1].items()}, actor)
        return self._read[1]

    @property
    def has_admin(self) -> bool:
        """Whether an admin exists."""
        return _has_admin(self.read())

    @property
    def has_admin_with_codes(self) -> bool:
        """Whether an admin exists who logs in with one-time codes."""
        return any(account.role is Role.ADMIN and account.totp is not None for account in self.read().values())

    async def add(self, name: str, password: str, role: Role, *, actor: str) -> Account:
        """Add a user; the name is folded to lower case."""
        return await self._add(name, password, role, actor=actor, first=False)

    async def add_first_admin(self, name: str, password: str) -> Account:
        """Add an admin where there is none; of two at once only one is added."""
        return await self._add(name, password, Role.ADMIN, actor=_SET_UP, first=True)

    async def set_password(self, name: str, password: str, *, actor: str) -> None:
        """Give a user another password; the user's sessions end."""
        self.check_new_password(name, password)
        hashed = Secret(await self._hasher.hash(password))

        def edit(found: dict[str, Account]) -> None:
            found[name] = attrs.evolve(_existing(found, name), hash=hashed)

        await self._change(edit, actor, f"password of {name}")

    def check_new_password(self, name: str, password: str) -> None:
        """Raises UsageError for a password that is too short or easy to guess."""
        check_password(password, (name, *self._words))

    async def renew_hash(self, account: Account, password: str) -> Account:
        """Hash a password that was just verified with the parameters of new hashes, unless it was changed meanwhile."""
        renewed = attrs.evolve(account, hash=Secret(await self._hasher.hash(password)))

        def edit(found: dict[str, Account]) -> None:
            now = _existing(found, account.name)
            if now.stamp == account.stamp:
                found[account.name] = attrs.evolve(now, hash=renewed.hash)

        await self._change(edit, account.name, f"rehash of {account.name}")
        return renewed

    async def set_role(self, name: str, role: Role, *, actor: str) -> None:
        """Give a user another role; the user's sessions end. The last admin keeps it."""

        def edit(found: dict[str, Account]) -> None:
            found[name] = attrs.evolve(_existing(found, name), role=role)

        await self._change(edit, actor, f"role of {name}: {role}")

    async def remove(self, name: str, *, actor: str) -> None:
        """Remove a user, whose sessions end; the last admin stays."""

        def edit(found: dict[str, Account]) -> None:
            del found[_existing(found, name).name]

        await self._change(edit, actor, f"removal of {name}")

    async def set_totp(self, name: str, secret: str | None, codes: Iterable[str] = (), *, actor: str) -> None:
        """Set the secret of a user's one-time passwords with its recovery codes; None ends the second factor.

        Verify a code of the secret before: a secret that no app knows keeps the user out.
        """
        if secret is not None and not is_totp_secret(secret):
            raise UsageError(
                "The secret of one-time passwords is not Base32 of 128 bits.", "Start the enrolment again."
            )
        kept = None if secret is None else Secret(secret)
        hashes = () if secret is None else tuple(recovery_hash(code) for code in codes)

        def edit(found: dict[str, Account]) -> None:
            found[name] = attrs.evolve(_existing(found, name), totp=kept, recovery=hashes)

        await self._change(edit, actor, f"one-time passwords of {name}: {'off' if kept is None else 'on'}")

    async def spend_recovery(self, name: str, digest: str) -> bool:
        """Remove a recovery code by its hash; False where it was used before."""
        spent = False

        def edit(found: dict[str, Account]) -> None:
            nonlocal spent
            account = _existing(found, name)
            spent = digest in account.recovery
            found[name] = attrs.evolve(account, recovery=tuple(it for it in account.recovery if it != digest))

        await self._change(edit, name, f"recovery code of {name}")
        return spent

    @property
    def _file(self) -> Path:
        return self._log.vault.store.place(CATEGORY).file

    async def _add(self, name: str, password: str, role: Role, *, actor: str, first: bool) -> Account:
        name = user_name(name)
        self.check_new_password(name, password)
        account = Account(name=name, role=role, hash=Secret(await self._hasher.hash(password)))

        def edit(found: dict[str, Account]) -> None:
            if first and _has_admin(found):
                raise UsageError("An admin exists.", "Log in as an admin, who adds users.")
            if name in found:
                raise UsageError(f"The user {name} exists.", "Choose another name.")
            found[name] = account

        await self._change(edit, actor, f"addition of {name}: {role}")
        return account

    async def _change(self, edit: Edit, actor: str, what: str) -> None:
        await asyncio.to_thread(self._change_now, edit, actor, what)  # seam: it waits for the disk

    def _change_now(self, edit: Edit, actor: str, what: str) -> None:
        vault = self._log.acting(actor)
        for _ in range(_TRIES):
            edition = vault.store.edition(CATEGORY)
            before = _load(self._log, actor) if edition else {}
            after = self._edited(before, edit, actor)
            if after is before:
                return
            if encrypt_category(vault, CATEGORY, _dump(after), edition):  # recorded before it is done
                self._read = (None, {})
                self._log.record("account", actor, what)
                self._read_for(actor)
                return
        raise AccessError("Other processes keep changing the accounts.", "Try again.")

    def _edited(self, before: dict[str, Account], edit: Edit, actor: str) -> dict[str, Account]:
        # The accounts after a change; the same where nothing changes.
        after = dict(before)
        edit(after)
        changed = {name for name in sorted({*before, *after}) if before.get(name) is not after.get(name)}
        if changed - {actor} and not self._is_admin(before, actor):
            raise UsageError(f"{actor} is not an admin any more.", "Ask an admin.")
        if _has_admin(before) and not _has_admin(after):
            raise UsageError("The last admin cannot be removed or get another role.", "Make another user admin first.")
        return after if changed else before

    def _is_admin(self, accounts: Mapping[str, Account], actor: str) -> bool:
        if actor == _SET_UP:  # the person with the one-time link
            return not _has_admin(accounts)
        return actor in accounts and (accounts[actor].role is Role.ADMIN or not self._with_roles)


def _has_admin(accounts: Mapping[str, Account]) -> bool:
    return any(account.role is Role.ADMIN for account in accounts.values())


def _existing(accounts: Mapping[str, Account], name: str) -> Account:
    account = accounts.get(name)
    return _unknown_user() if account is None else account


def _unknown_user() -> NoReturn:
    raise UsageError("The user does not exist.", "Reload the list of users.")


def _load(log: SecurityLog, actor: str = "") -> dict[str, Account]:
    vault = log.acting(actor) if actor else log.vault
    file = vault.store.place(CATEGORY)
    shown, found = file.shown(file.file), dict[str, Account]()
    with vault.read(CATEGORY) as opened:
        for section in schemas.parse_content(opened.view, CATEGORY, shown):
            fields = schemas.content_fields(opened.view, CATEGORY, shown, section)
            filled = schemas.fill_schema(LoginCredentials, fields, schemas.FieldLocation(CATEGORY, shown, section))
            name = section.casefold()
            if name in found:
                raise SettingsError(
                    f"{shown} has the user {name} twice.", f"Correct it: `tbot secrets edit {CATEGORY}`."
                )
            found[name] = _account(name, filled)
    return found


def _account(name: str, filled: LoginCredentials) -> Account:
    recovery, totp = _secret(filled.recovery), _secret(filled.totp)
    return Account(
        name=name,
        role=Role(filled.role),
        hash=_secret(filled.hash) or Secret("-"),
        totp=totp,
        recovery=() if recovery is None else tuple(recovery.inspect().split(",")),
    )


def _secret(value: object) -> Secret | None:
    return value if isinstance(value, Secret) else None


def _dump(accounts: Mapping[str, Account]) -> bytes:
    sections = {
        account.name: {
            "hash": account.hash.inspect(),
            "role": str(account.role),
            **({} if account.totp is None else {"totp": account.totp.inspect()}),
            **({"recovery": ",".join(account.recovery)} if account.recovery else {}),
        }
        for account in accounts.values()
    }
    return json.dumps(sections, sort_keys=True).encode()
