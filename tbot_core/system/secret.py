"""`Secret`, a value that must not be shown, and the register of the values that output is searched for.

A value that was handed out as text is registered until the process ends: its receiver may put it into an error
or a log line long after the `Secret` was wiped. A digest cannot find a value inside a text, so the register keeps a
copy of it. The copy is as exposed as the text that was handed out, which is out of reach of `wipe` too. A value that
was never handed out is searched for while its `Secret` is held, and is gone when that is wiped.
"""

from __future__ import annotations

import weakref
from itertools import count
from typing import Final, NoReturn, final

from tbot_core.errors import VaultError

SHOWN: Final = "[redacted]"

_serials = count()
_living: weakref.WeakValueDictionary[int, Secret] = weakref.WeakValueDictionary()
_handed_out: dict[bytes, None] = {}


def _refuse(action: str) -> NoReturn:
    raise TypeError(f"a secret cannot be {action}")


@final
class Secret:
    """A secret value that is redacted wherever it is shown, and cannot be compared, copied or pickled.

    The bytes are in one buffer that `wipe` clears. Raises VaultError for an empty value. While the object is alive,
    and after `reveal` until the process ends, all output redacts its value and usual encodings.
    """

    __slots__ = ("__weakref__", "_buffer")

    def __init__(self, value: str | bytes | bytearray) -> None:
        if not value:
            raise VaultError("A secret is empty.", "Give it a value, or leave it out.")
        self._buffer = bytearray(value.encode() if isinstance(value, str) else value)
        _living[next(_serials)] = self

    def reveal(self) -> str:
        """The value as UTF-8 text, for a vendor's library; it is redacted until the process ends.

        Raises VaultError once wiped.
        """
        value = self.inspect()
        _handed_out[value.encode()] = None
        return value

    def inspect(self) -> str:
        """The value as UTF-8 text, to be judged by the caller and not passed on; raises VaultError once wiped."""
        return self.inspect_bytes().decode()

    def inspect_bytes(self) -> bytes:
        """The value as bytes, likewise."""
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


def handed_out() -> tuple[bytes, ...]:
    """Every value that was handed out since the process started, oldest first."""
    return tuple(_handed_out)
