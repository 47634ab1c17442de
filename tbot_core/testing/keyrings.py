"""A keyring in memory, in place of the system's, for tests of what keeps its keys in one."""

from __future__ import annotations


class MemoryKeyring:
    """Holds passwords as long as it lives; `held` has them by (service, name)."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, name: str) -> str | None:
        """What is held under the name."""
        return self.held.get((service, name))

    def set_password(self, service: str, name: str, text: str) -> None:
        """Hold it."""
        self.held[service, name] = text

    def delete_password(self, service: str, name: str) -> None:
        """Let it go; as in the library, what is not held is an error."""
        from keyring.errors import PasswordDeleteError

        if self.held.pop((service, name), None) is None:
            raise PasswordDeleteError("not found")
