"""Password hashes: argon2id, in threads beside the event loop, few at once."""

from __future__ import annotations

import asyncio
import base64
import re
import unicodedata
from typing import Final

import attrs

from tbot_core.system import random

LONGEST: Final = 256
"""The largest number of characters of a password; no longer text matches a hash."""

_TEXT: Final = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,2}),p=(\d{1,2})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}"
)
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_MOST: Final = (1_048_576, 16, 16)


@attrs.frozen(kw_only=True)
class HashParameters:
    """The cost of a hash: memory in KiB, passes over it, and lanes. The defaults are OWASP's minimum for argon2id."""

    memory_kib: int = 19_456
    iterations: int = 2
    lanes: int = 1


def hash_parameters(text: str) -> HashParameters | None:
    """The parameters in a hash's text; None for another kind of hash, and for a cost that no login could pay."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    memory, iterations, lanes = (int(part) for part in match.groups())
    sound = all(1 <= one <= most for one, most in zip((memory, iterations, lanes), _MOST, strict=True))
    if not sound or memory < 8 * lanes:
        return None
    return HashParameters(memory_kib=memory, iterations=iterations, lanes=lanes)


def normalized(password: str) -> str:
    """The password as it is hashed: keyboards compose accents differently."""
    return unicodedata.normalize("NFC", password)


def hash_password(password: str, parameters: HashParameters) -> str:
    """The password's hash as text, `$argon2id$...`; takes about 0.1 s and the memory of the parameters."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    kdf = Argon2id(
        salt=random.entropy(_SALT_BYTES),
        length=_HASH_BYTES,
        iterations=parameters.iterations,
        lanes=parameters.lanes,
        memory_cost=parameters.memory_kib,
    )
    return kdf.derive_phc_encoded(_bytes(password))


def password_matches(password: str, text: str) -> bool:
    """Whether the hash is that of the password. The work is that of one hash, whatever the password."""
    from cryptography.exceptions import InvalidKey
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    try:
        Argon2id.verify_phc_encoded(_bytes(password), text)
    except (InvalidKey, ValueError):  # ValueError: a digest or salt that is not Base64
        return False
    return len(password) <= LONGEST


def decoy_hash(parameters: HashParameters) -> str:
    """The hash of no password, for an unknown user: to verify it costs as much as to verify a real one."""
    salt, digest = (
        base64.b64encode(random.entropy(length)).rstrip(b"=").decode() for length in (_SALT_BYTES, _HASH_BYTES)
    )
    cost = f"m={parameters.memory_kib},t={parameters.iterations},p={parameters.lanes}"
    return f"$argon2id$v=19${cost}${salt}${digest}"


class PasswordHasher:
    """Hashes and verifies in threads, at most `at_once` at a time: each takes the memory of its parameters.

    `computed` counts the hashes since the process started.
    """

    def __init__(self, parameters: HashParameters | None = None, at_once: int = 2) -> None:
        self.parameters = parameters or HashParameters()
        self.at_once = at_once
        self.computed = 0
        self._slots = asyncio.Semaphore(at_once)

    async def hash(self, password: str) -> str:
        """The hash of a new password."""
        async with self._slots:
            self.computed += 1
            return await asyncio.to_thread(hash_password, password, self.parameters)  # seam: a hash takes 0.1 s

    async def verify(self, password: str, text: str) -> bool:
        """Whether the hash is that of the password; a hash that cannot be judged matches nothing."""
        if hash_parameters(text) is None:
            text = decoy_hash(self.parameters)
        async with self._slots:
            self.computed += 1
            return await asyncio.to_thread(password_matches, password, text)  # seam: a hash takes 0.1 s

    def needs_rehash(self, text: str) -> bool:
        """Whether a hash was made with other parameters than new ones are."""
        return hash_parameters(text) != self.parameters


def _bytes(password: str) -> bytes:
    # No more than can match: the work must not grow with what was sent.
    return normalized(password[: LONGEST + 1]).encode(errors="surrogatepass")
