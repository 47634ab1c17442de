"""A value that must not be shown: `Secret`, and the registry of those that are alive."""

from __future__ import annotations

import weakref
from itertools import count
from typing import Final, NoReturn, final

from tbot_core.errors import VaultError

SHOWN: Final = "[redacted]"

_serials = count()
_living: weakref.WeakValueDictionary[int, Secret] = weakref.WeakValueDictionary()


def _refuse(deed: str) -> NoReturn:
    raise TypeError(f"a secret cannot be {deed}")


@final
class Secret:
    """A secret value that redacts itself wherever it is shown and refuses to be carried away.

    The bytes lie in one buffer that `wipe` clears; an empty value raises VaultError. While the object lives, the log
    gate removes its value, and its usual encodings, from every line.
    """

    __slots__ = ("__weakref__", "_buffer")

    def __init__(self, value: str | bytes | bytearray) -> None:
        if not value:
            raise VaultError("A secret is empty.", "Give it a value, or leave it out.")
        self._buffer = bytearray(value.encode() if isinstance(value, str) else value)
        _living[next(_serials)] = self

    def reveal(self) -> str:
        """The value as text (UTF-8), for a vendor's library that wants text; raises VaultError once wiped."""
        return self.reveal_bytes().decode()

    def reveal_bytes(self) -> bytes:
        """The value as bytes; raises VaultError once wiped."""
        if not self._buffer:
            raise VaultError("A secret was used after it was wiped.", "Open it from the vault again.")
        return bytes(self._buffer)

    @property
    def is_held(self) -> bool:
        """Whether the value is still there: False once wiped."""
        return bool(self._buffer)

    def wipe(self) -> None:
        """Overwrite the value with zeros and forget it; a second call does nothing."""
        self._buffer[:] = bytes(len(self._buffer))
        self._buffer.clear()

    def __repr__(self) -> str:
        """The same text for every secret."""
        return SHOWN

    def __str__(self) -> str:
        """The same text for every secret."""
        return SHOWN

    def __format__(self, spec: str) -> str:
        """The same text for every secret, whatever the format asks for."""
        return SHOWN

    def __eq__(self, other: object) -> bool:
        """Refused with TypeError: comparing leaks by time and by accident."""
        _refuse("compared")

    def __hash__(self) -> NoReturn:  # noqa: PLE0309  -- it never returns
        """Refused with TypeError: a hash is a fingerprint of the value."""
        _refuse("hashed")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refused with TypeError: neither pickle nor copy may carry a secret away."""
        _refuse("pickled or copied")

    def __copy__(self) -> NoReturn:
        """Refused with TypeError."""
        _refuse("copied")

    def __deepcopy__(self, memo: object) -> NoReturn:
        """Refused with TypeError."""
        _refuse("copied")


def living_secrets() -> tuple[tuple[int, Secret], ...]:
    """Every secret that is alive and not wiped, with the serial number of its making, oldest first."""
    held = [(serial, secret) for serial, secret in _living.items() if secret.is_held]
    return tuple(sorted(held, key=lambda item: item[0]))
