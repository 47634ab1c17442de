"""A keyring in memory, as a substitute for the system keyring in tests."""

from __future__ import annotations


class MemoryKeyring:
    """Stores passwords in memory; `held` has them by (service, name)."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, name: str) -> str | None:
        """The password under the name."""
        return self.held.get((service, name))

    def set_password(self, service: str, name: str, text: str) -> None:
        """Store a password."""
        self.held[service, name] = text

    def delete_password(self, service: str, name: str) -> None:
        """Delete a password; as in the library, an unknown name is an error."""
        from keyring.errors import PasswordDeleteError

        if self.held.pop((service, name), None) is None:
            raise PasswordDeleteError("not found")
