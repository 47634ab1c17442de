"""`Secret`, a value that must not be shown, and the registry of live ones."""

from __future__ import annotations

import weakref
from itertools import count
from typing import Final, NoReturn, final

from tbot_core.errors import VaultError

SHOWN: Final = "[redacted]"

_serials = count()
_living: weakref.WeakValueDictionary[int, Secret] = weakref.WeakValueDictionary()


def _refuse(action: str) -> NoReturn:
    raise TypeError(f"a secret cannot be {action}")


@final
class Secret:
    """A secret value that is redacted wherever it is shown, and cannot be compared, copied or pickled.

    The bytes are in one buffer that `wipe` clears. Raises VaultError for an empty value. While the object is alive,
    the log redacts its value and usual encodings.
    """

    __slots__ = ("__weakref__", "_buffer")

    def __init__(self, value: str | bytes | bytearray) -> None:
        if not value:
            raise VaultError("A secret is empty.", "Give it a value, or leave it out.")
        self._buffer = bytearray(value.encode() if isinstance(value, str) else value)
        _living[next(_serials)] = self

    def reveal(self) -> str:
        """The value as UTF-8 text, for a vendor's library; raises VaultError once wiped."""
        return self.reveal_bytes().decode()

    def reveal_bytes(self) -> bytes:
        """The value as bytes; raises VaultError once wiped."""
        if not self._buffer:
            raise VaultError("A secret was used after it was wiped.", "Open it from the vault again.")
        return bytes(self._buffer)

    @property
    def is_held(self) -> bool:
        """Whether the value is still there; False once wiped."""
        return bool(self._buffer)

    def wipe(self) -> None:
        """Overwrite the value with zeros and clear it; a second call does nothing."""
        self._buffer[:] = bytes(len(self._buffer))
        self._buffer.clear()

    def __repr__(self) -> str:
        """Return the same text for every secret."""
        return SHOWN

    def __str__(self) -> str:
        """Return the same text for every secret."""
        return SHOWN

    def __format__(self, spec: str) -> str:
        """Return the same text for every secret and format."""
        return SHOWN

    def __eq__(self, other: object) -> bool:
        """Raises TypeError: a comparison leaks by timing."""
        _refuse("compared")

    def __hash__(self) -> NoReturn:  # noqa: PLE0309  -- never returns
        """Raises TypeError: a hash is a fingerprint of the value."""
        _refuse("hashed")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Raises TypeError: secrets must not be pickled or copied."""
        _refuse("pickled or copied")

    def __copy__(self) -> NoReturn:
        """Raises TypeError."""
        _refuse("copied")

    def __deepcopy__(self, memo: object) -> NoReturn:
        """Raises TypeError."""
        _refuse("copied")


def living_secrets() -> tuple[tuple[int, Secret], ...]:
    """Every live secret that is not wiped, with its serial number, oldest first."""
    held = [(serial, secret) for serial, secret in _living.items() if secret.is_held]
    return tuple(sorted(held, key=lambda item: item[0]))
