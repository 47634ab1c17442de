"""Logins and their sessions: who makes a request, and whether the password was entered again just now.

Every refused login has one sentence and one procedure: one hash, the same rows of the store, one line of the security
log while they are few, for a user who exists and one who does not, locked or not.
"""

from __future__ import annotations

import asyncio
import hmac
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import TbotError, UsageError
from tbot_core.system import log, random
from tbot_extension_web.access import second_factor
from tbot_extension_web.access.accounts import USER_NAME, Account
from tbot_extension_web.access.credentials import Role
from tbot_extension_web.access.denials import FewLines
from tbot_extension_web.access.login_rules import LoginRules, TokenBucket, source_prefix
from tbot_extension_web.access.login_store import Attempt, NewSession
from tbot_extension_web.access.passwords import decoy_hash, hash_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.vault.vault import AuditAction
    from tbot_extension_web.access.accounts import Accounts
    from tbot_extension_web.access.login_store import LoginStore, StoredSession
    from tbot_extension_web.access.passwords import PasswordHasher
    from tbot_extension_web.access.security_log import SecurityLog

BUSY: Final = "Too many logins are being tried. Try again in a few seconds."
STEP_UP_REFUSED: Final = (
    "The password or the code is wrong. A one-time password counts once: wait for the next one. After too many "
    "failures this session ends."
)

THIS_MACHINE: Final = "this machine"
"""The source of a session from a loopback address."""

_TOKEN_BYTES: Final = 32
_NAME: Final = 256
_SEEN_S: Final = 30.0
_CSRF: Final = b"tbot web csrf v1"

_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class LoggedIn:
    """A login or step-up that was accepted: the session's new token, and its token against forged requests."""

    token: str = attrs.field(repr=False)
    csrf: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Refused:
    """A login or step-up that was refused; `busy`: nothing was judged, because too many are being tried."""

    sentence: str
    busy: bool = False


@attrs.frozen(kw_only=True)
class Session:
    """Who makes a request; `stepped_up`: the password was entered again within the last minutes."""

    id: int
    user: str
    role: Role
    csrf: str = attrs.field(repr=False)
    stepped_up: bool


@attrs.frozen(kw_only=True)
class OpenSession:
    """A session in a list; `started` is by the wall clock, `idle_s` how long ago it was used, in seconds."""

    id: int
    user: str
    source: str
    agent: str
    started: datetime
    idle_s: float


@attrs.frozen(kw_only=True)
class _Verified:
    # What a password and a code proved; `step` and `recovery` are what the code is spent by.
    right: bool
    step: tuple[str, int] | None = None
    recovery: str | None = None


class Logins:
    """Logs users in, and knows their sessions; `last_logins()` says when each user logged in last.

    Used in the thread of the event loop that opened the store.
    """

    def __init__(
        self, accounts: Accounts, store: LoginStore, hasher: PasswordHasher, security: SecurityLog, rules: LoginRules
    ) -> None:
        self.rules = rules
        self.accounts = accounts
        self.security = security
        self.last_logins = store.sessions.last_logins
        self._store = store
        self._hasher = hasher
        # What strangers try leaves open sessions a budget and a place at the hasher.
        self._strangers = TokenBucket(rules.attempts_per_s, rules.burst, store.clock)
        self._sessions = TokenBucket(rules.attempts_per_s, rules.burst, store.clock)
        self._lines = FewLines(store.clock)
        self._strangers_turn = asyncio.Semaphore(hasher.at_once - 1)

    async def log_in(self, name: str, password: str, code: str, source: str, agent: str) -> LoggedIn | Refused:
        """Log a user in. `code` is a one-time password or a recovery code, "" without one; `source` is an address."""
        if not self._strangers.draw():
            return Refused(sentence=BUSY, busy=True)
        name, accounts = name[:_NAME].strip().casefold(), self.accounts.read()
        account, prefix = accounts.get(name) if USER_NAME.fullmatch(name) else None, source_prefix(source)
        async with self._strangers_turn:
            found = await self._verify(account, accounts, password, code)
        attempt = self._attempt(name, prefix, found)
        result = self._store.attempts.record(attempt, self.rules.lock)
        accepted = account is not None and result.accepted and await self._spend(account, found)
        user = account.name if account is not None else ""
        await self._record_try("login", user, "ok" if accepted else "refused", prefix)
        for subject in result.locked:
            await self._record_try("lock", user, "name" if subject == attempt.name else "source", prefix)
        if account is None or not accepted or not self._is_current(account):
            return Refused(sentence=self.rules.refusal)
        account = await self._with_current_hash(account, password)
        self._store.sessions.mark_login(account.name)
        return self._begin(account, prefix or THIS_MACHINE, agent)

    def session(self, token: str, *, active: bool = True) -> Session | None:
        """The session of a token; None where it ended. `active`: a person makes the request, and the idle time ends."""
        found = self._current(token)
        if found is None:
            return None
        stored, account = found
        if active and stored.idle_s >= min(_SEEN_S, self.rules.idle_s / 4):
            self._store.sessions.mark_seen(stored)
        return Session(
            id=stored.id,
            user=account.name,
            role=account.role if self.rules.with_roles else Role.ADMIN,
            csrf=csrf_token(token),
            stepped_up=stored.step_up_age_s is not None and stored.step_up_age_s < self.rules.step_up_s,
        )

    async def confirm(self, token: str, password: str, code: str) -> Refused | None:
        """Verify the password again, for one request; None where it is right and the session goes on.

        A lock does not refuse it: strangers cannot keep a logged-in admin from acting. Failures count for the user
        too, and end the session at the limit.
        """
        if not self._sessions.draw():
            return Refused(sentence=BUSY, busy=True)
        verified = await self._verify_again(token, password, code)
        if not verified or self._current(token) is None:  # it may have ended meanwhile
            return Refused(sentence=STEP_UP_REFUSED)
        return None

    async def step_up(self, token: str, password: str, code: str) -> LoggedIn | Refused:
        """Verify the password as `confirm` does, for the requests of the next minutes; the session gets a new token."""
        refused = await self.confirm(token, password, code)
        current, renewed = self._current(token), _new_token()
        if refused is not None or current is None:
            return refused or Refused(sentence=STEP_UP_REFUSED)
        self._store.sessions.step_up(current[0], renewed)
        return LoggedIn(token=renewed, csrf=csrf_token(renewed))

    async def change_password(self, token: str, password: str, code: str, new: str) -> LoggedIn | Refused:
        """Change a user's own password: all sessions of the user end, and this one goes on under a new token.

        Raises UsageError for a new password that is not allowed.
        """
        if (found := self._current(token)) is None:
            return Refused(sentence=STEP_UP_REFUSED)
        stored, account = found
        self.accounts.check_new_password(account.name, new)
        if not self._sessions.draw():
            return Refused(sentence=BUSY, busy=True)
        if not await self._verify_again(token, password, code):
            return Refused(sentence=STEP_UP_REFUSED)
        await self.accounts.set_password(account.name, new, actor=account.name)
        self._store.sessions.end_all(account.name)
        changed = self.accounts.read().get(account.name)
        if changed is None:
            return Refused(sentence=STEP_UP_REFUSED)
        return self._begin(changed, stored.source, stored.agent)

    async def log_out(self, token: str) -> None:
        """End the session of a token."""
        session = self._store.sessions.find(token)
        if session is not None:
            self._store.sessions.end(session.id)
            await self._record("logout", session.user, "ok", "")

    async def enrol_totp(self, token: str, secret: str, code: str) -> tuple[LoggedIn, tuple[str, ...]]:
        """Set a user's one-time passwords once a code proves that the app has the secret; returns recovery codes.

        The user's other sessions end, and this one goes on under a new token. Raises UsageError for a code that does
        not fit.
        """
        user, step = self._user(token), second_factor.matching_step(secret, code, self._store.clock.now())
        if step is None or not self._store.attempts.spend((user, step)):
            raise UsageError(
                "The code does not fit the secret.",
                "Enter the code that the app shows now, and check the clocks of this machine and of the phone.",
            )
        codes = second_factor.new_recovery_codes()
        return await self._with_totp(token, secret, codes), codes

    async def end_totp(self, token: str) -> LoggedIn:
        """End a user's one-time passwords; the other sessions end, and this one goes on under a new token."""
        return await self._with_totp(token, None, ())

    async def _with_totp(self, token: str, secret: str | None, codes: tuple[str, ...]) -> LoggedIn:
        user, stored, renewed = self._user(token), self._store.sessions.find(token), _new_token()
        await self.accounts.set_totp(user, secret, codes, actor=user)
        account = self.accounts.read().get(user)
        if stored is not None and account is not None:
            self._store.sessions.rebind(stored, renewed, account.stamp)
        return LoggedIn(token=renewed, csrf=csrf_token(renewed))

    def _user(self, token: str) -> str:
        found = self._current(token)
        if found is None:
            raise UsageError("The session has ended.", "Log in again.")
        return found[1].name

    def sessions(self, user: str | None = None) -> list[OpenSession]:
        """The open sessions of a user, or of all."""
        self._end_expired()
        accounts = self.accounts.read()
        return [
            OpenSession(
                id=session.id,
                user=session.user,
                source=session.source,
                agent=session.agent,
                started=session.started,
                idle_s=session.idle_s,
            )
            for session in self._store.sessions.of_user(user)
            if session.user in accounts and accounts[session.user].stamp == session.stamp
        ]

    def end_session(self, user: str, number: int) -> bool:
        """End a session of a user by its number; False where the user has none of that number."""
        mine = any(session.id == number for session in self._store.sessions.of_user(user))
        if mine:
            self._store.sessions.end(number)
        return mine

    async def end_sessions(self, user: str, *, actor: str) -> int:
        """End all sessions of another user by an admin, and return their number."""
        await self._record("logout", actor, f"sessions of {user}", "")
        return self._store.sessions.end_all(user)

    def locked_users(self) -> tuple[str, ...]:
        """The users who are locked, in order."""
        names = sorted(self.accounts.read())
        return tuple(name for name in names if self._store.attempts.lock_ends_s(self._subject(name), self.rules.lock))

    async def unlock(self, user: str, *, actor: str) -> bool:
        """Forget the failed attempts of a user; returns whether there were any."""
        await self._record("unlock", actor, user, "")
        return self._store.attempts.unlock(self._subject(user))

    def _current(self, token: str) -> tuple[StoredSession, Account] | None:
        # The session of a token with the account as it is now; one that is over is removed.
        stored = self._store.sessions.find(token)
        if stored is None:
            return None
        account = self.accounts.read().get(stored.user)
        in_time = stored.idle_s < self.rules.idle_s and stored.age_s < self.rules.absolute_s
        if account is not None and account.stamp == stored.stamp and in_time and self._has_codes(account):
            return stored, account
        self._store.sessions.end(stored.id)
        return None

    def _end_expired(self) -> None:
        self._store.sessions.end_expired(self.rules.idle_s, self.rules.absolute_s)

    def _is_current(self, account: Account) -> bool:
        # Whether the account is still the one whose password was verified.
        now = self.accounts.read().get(account.name)
        return now is not None and now.stamp == account.stamp

    async def _verify(
        self, account: Account | None, accounts: Mapping[str, Account], password: str, code: str
    ) -> _Verified:
        text = account.hash.inspect() if account is not None else self._decoy(accounts)
        right = await self._hasher.verify(password, text)
        if account is None or not right:
            return _Verified(right=False)
        if account.totp is None:
            return _Verified(right=self._has_codes(account))
        step = second_factor.matching_step(account.totp.inspect(), code, self._store.clock.now())
        if step is not None:
            return _Verified(right=True, step=(account.name, step))
        recovery = second_factor.matching_recovery(code, account.recovery)
        return _Verified(right=recovery is not None, recovery=recovery)

    def _has_codes(self, account: Account) -> bool:
        # Whether the account has one-time codes where they are required, also for a session of before.
        return account.totp is not None or not self.rules.totp_required

    async def _verify_again(self, token: str, password: str, code: str) -> bool:
        # Whether the user of a session entered the password again; failures count.
        if (found := self._current(token)) is None:
            return False
        stored, account = found
        verified = await self._verify(account, {}, password, code)
        accepted = verified.right and self._store.attempts.spend(verified.step) and await self._spend(account, verified)
        await self._record("step-up", account.name, "ok" if accepted else "refused", "")
        if accepted:
            self._store.sessions.forget_failures(stored)
            return True
        wrong = Attempt(name=self._subject(account.name), right=False)
        for _ in self._store.attempts.record(wrong, self.rules.lock).locked:
            await self._record("lock", account.name, "name", "")
        if not self._store.sessions.count_failure(stored, self.rules.attempt_limit):
            await self._record("logout", account.name, "too many failures", "")
        return False

    async def _spend(self, account: Account, verified: _Verified) -> bool:
        # A recovery code counts once; it is removed only where the login is accepted otherwise.
        return verified.recovery is None or await self.accounts.spend_recovery(account.name, verified.recovery)

    async def _with_current_hash(self, account: Account, password: str) -> Account:
        # Hash the password anew where the parameters changed; the login does not depend on it.
        if self._hasher.needs_rehash(account.hash.inspect()):
            try:
                return await self.accounts.renew_hash(account, password)
            except TbotError as fault:
                _log.warning("web.hash_not_renewed", user=account.name, reason=fault.message)
        return account

    def _begin(self, account: Account, source: str, agent: str) -> LoggedIn:
        self._end_expired()
        token = _new_token()
        new = NewSession(user=account.name, stamp=account.stamp, source=source, agent=_printable(agent))
        self._store.sessions.add(token, new)
        return LoggedIn(token=token, csrf=csrf_token(token))

    def _attempt(self, name: str, prefix: str, found: _Verified) -> Attempt:
        source = self._store.subject("source", prefix) if prefix else ""
        return Attempt(name=self._subject(name), source=source, right=found.right, step=found.step)

    def _subject(self, name: str) -> str:
        return self._store.subject("name", name)

    def _decoy(self, accounts: Mapping[str, Account]) -> str:
        # As costly as the hashes of the users who exist; new parameters reach them one by one, at their next login.
        hashes = (account.hash.inspect() for account in accounts.values())
        known = [found for one in hashes if (found := hash_parameters(one)) is not None]
        return decoy_hash(max(known, key=lambda it: it.memory_kib * it.iterations, default=self._hasher.parameters))

    async def _record_try(self, action: AuditAction, user: str, outcome: str, source: str) -> None:
        # A line as `_record` writes it; few where strangers cause them.
        words = outcome if outcome == "ok" else self._lines.passing(action, outcome)
        if words is not None:
            await self._record(action, user, words, source)

    async def _record(self, action: AuditAction, user: str, outcome: str, source: str) -> None:
        record = self.security.record
        await asyncio.to_thread(record, action, user, outcome, source=source)  # seam: it waits for the disk


def csrf_token(token: str) -> str:
    """The token against forged requests of a session: who knows it does not know the session's token."""
    return hmac.new(token.encode(errors="surrogatepass"), _CSRF, sha256).hexdigest()


def _new_token() -> str:
    return random.entropy(_TOKEN_BYTES).hex()


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)
