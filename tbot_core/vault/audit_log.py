"""The audit log of secrets: one line per access, hash-chained and authenticated. No access without a line.

The chain reveals edited, removed, added or moved lines. A truncated end is revealed only by an anchor kept elsewhere.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.errors import AccessError
from tbot_core.model import json_document
from tbot_core.system import filesystem, large_files, secure_files
from tbot_core.vault import categories
from tbot_core.vault.error_codes import VaultErrorCode, vault_error
from tbot_core.vault.store import SecretStore
from tbot_core.vault.vault import SecretAccess, Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from tbot_core.errors import VaultError
    from tbot_core.vault.categories import HasHome
    from tbot_core.vault.keys import RootKey

GENESIS: Final = "0" * 64
RESERVE_BYTES: Final = 65_536
"""Space for about 150 lines, reserved behind the end, so that a full disk cannot stop an exit."""

_DIGITS: Final = 18
_LABEL: Final = b"tbot audit v1 "
_ROTATED: Final = ("rotate", "ok")
_BACKED_UP: Final = ("backup", "ok")
PASSED: Final = "passed"
"""The outcome of a drill of a backup that has passed."""


@attrs.frozen(kw_only=True)
class AuditAnchor:
    """The number of lines and the hash of the last one; kept elsewhere, it proves that nothing was cut off."""

    count: int
    hash: str

    @property
    def text(self) -> str:
        """The anchor as sent and logged, such as `12:9f86…`."""
        return f"{self.count}:{self.hash}"


@attrs.frozen(kw_only=True)
class AuditLogEntry:
    """A logged access; `utc` is when, `monotonic` the machine's clock in seconds, `actor` who."""

    seq: int
    utc: datetime
    monotonic: float
    actor: str
    action: str
    category: str
    key_id: str
    outcome: str


@attrs.frozen(kw_only=True)
class BackupHistory:
    """What the log says of backups: when the last one was written and verified with its id, and the last drill of each.

    `last_id` is "" where the log does not name it; `drills` have time and whether it passed, by the id of a backup.
    """

    last: datetime | None = None
    last_id: str = ""
    drills: Mapping[str, tuple[datetime, bool]] = attrs.field(factory=dict)


@attrs.define(kw_only=True)
class AuditLog:
    """Writes the log of one instance for an actor; several processes may write at once."""

    store: SecretStore
    actor: str

    @property
    def path(self) -> Path:
        """The path of the log."""
        return log_path(self.store.instance)

    def record(self, access: SecretAccess) -> None:
        """Write one line durably; raises VaultError on failure, and the access must not happen then."""
        key = self.key()
        try:
            filesystem.make_folder(self.path.parent)
            secure_files.append(
                self.path,
                lambda last, torn: self._lines(access, last, torn=torn, key=key),
                reserve=RESERVE_BYTES,
                system=self.store.system,
            )
        except AccessError:
            raise self._fault(VaultErrorCode.AUDIT_UNWRITABLE) from None
        finally:
            key.wipe()

    def key(self) -> RootKey:
        """The log's key, to be wiped by the caller. Raises VaultError when there is none."""
        here = self.store.place(categories.AUDIT)
        key = self.store.key(categories.AUDIT)
        if key is None:
            raise vault_error(VaultErrorCode.KEY_MISSING, categories.AUDIT, here.shown(here.key))
        return key

    def verify(self, collected: Sequence[AuditAnchor] = ()) -> AuditAnchor:
        """Verify the log with its key, the stored anchors and those collected elsewhere; store its head as the next."""
        kept, key = read_anchors(self.store.instance), self.key()
        try:
            found = verify_chain(self.path, key, anchors=(*kept, *collected))
        finally:
            key.wipe()
        if found not in kept[-1:]:
            keep_anchor(self.store.instance, found)
        return found

    def _lines(self, access: SecretAccess, last: bytes | None, *, torn: bool, key: RootKey) -> bytes:
        lines = b""
        accesses = [access]
        if torn:
            accesses.insert(
                0, SecretAccess(action="open", category=categories.AUDIT, outcome=VaultErrorCode.AUDIT_TORN.text)
            )
        for it in accesses:
            last = self._line(it, last, key)
            lines += last + b"\n"
        return lines

    def _line(self, access: SecretAccess, last: bytes | None, key: RootKey) -> bytes:
        try:
            seq = 0 if last is None else _whole(json_document.parse_json(last)["seq"])
        except (ValueError, TypeError, KeyError):
            raise self._fault(VaultErrorCode.AUDIT_BROKEN, section="last") from None
        clock = self.store.clock
        content = {
            **attrs.asdict(access),
            "actor": self.actor,
            "monotonic": round(clock.monotonic(), 6),
            "previous": GENESIS if last is None else _hash(last),
            "seq": seq + 1,
            "utc": clock.now().astimezone(UTC).isoformat(),
        }
        return _dump({**content, "mac": _mac(key, content)})

    def _fault(self, code: VaultErrorCode, section: str = "") -> VaultError:
        here = self.store.place(categories.AUDIT)
        return vault_error(code, categories.AUDIT, here.shown(here.file), section=section)


def open_vault(store: SecretStore, actor: str) -> Vault:
    """Open the vault of a store; its accesses are logged for the actor."""
    return Vault(
        store.instance,
        store.deployment,
        clock=store.clock,
        audit=AuditLog(store=store, actor=actor),
        live=store.strict,
        provider=store.provider,
        system=store.system,
        entropy=store.entropy,
        wait_s=store.wait_s,
    )


def log_path(instance: HasHome) -> Path:
    """The path of the log."""
    return instance.home / "data" / "audit.log"


def anchor_path(instance: HasHome) -> Path:
    """The path of the anchors stored in the instance."""
    return instance.home / "data" / "audit.anchors"


def log_head(path: Path) -> AuditAnchor:
    """The anchor of the current end, not verified; count 0 without a log. Raises VaultError."""
    lines = _whole_lines(path)
    return AuditAnchor(count=len(lines), hash=_hash(lines[-1]) if lines else GENESIS)


def keep_anchor(instance: HasHome, anchor: AuditAnchor) -> None:
    """Append an anchor to the instance's own, in place of one that a crash left incomplete.

    The caller also sends it elsewhere.
    """
    secure_files.append(anchor_path(instance), lambda _last, _torn: f"{anchor.text}\n".encode(), reserve=0)


def read_anchors(instance: HasHome) -> tuple[AuditAnchor, ...]:
    """Read the anchors stored in the instance; raises VaultError for an invalid line.

    An incomplete last line is left out: a crash or a full disk ended the append, and a start must not fail for it.
    """
    return tuple(_parse_anchor(line.decode(errors="replace")) for line in _whole_lines(anchor_path(instance)))


def _parse_anchor(text: str) -> AuditAnchor:
    # Parse an anchor's text. Raises VaultError.
    count, _, digest = text.partition(":")
    if not count.isdecimal() or len(count) > _DIGITS or len(digest) != len(GENESIS):
        raise vault_error(VaultErrorCode.AUDIT_ANCHOR, categories.AUDIT, "audit.anchors", section=text[:20])
    return AuditAnchor(count=int(count), hash=digest)


def log_entries(path: Path) -> Iterator[AuditLogEntry]:
    """Iterate over the entries in order, not verified. Raises VaultError for an invalid line."""
    for number, line in enumerate(_whole_lines(path), start=1):
        yield _parsed(path, line, str(number))


def entries_back(path: Path, end: int | None = None) -> Generator[tuple[int, AuditLogEntry], None, None]:
    """Each entry, the last one first, with the place in bytes where its line begins; `end`: only those before a place.

    They are not verified; what is read is no more than is asked for. Raises VaultError for an invalid line.
    """
    if not filesystem.is_present(path):
        return
    for start, line in large_files.lines_back(path, end):
        if line.endswith(b"\n"):
            yield start, _parsed(path, line, f"at byte {start}")


def place_of(path: Path, moment: datetime) -> int:
    """The place of the first entry at or after the moment, in a log whose clock was not set back; else that of its end.

    Raises VaultError for an invalid line.
    """
    if not filesystem.is_present(path):
        return 0

    def is_wanted(line: bytes) -> bool:
        return not line.endswith(b"\n") or _parsed(path, line, "in between").utc >= moment

    return large_files.first_line(path, is_wanted)


def first_entry(path: Path, key: RootKey, wanted: Callable[[AuditLogEntry], bool]) -> AuditLogEntry | None:
    """The first entry that is wanted. Raises VaultError if it was not written with the key, or for an invalid line."""
    for number, (entry, line) in enumerate(zip(log_entries(path), _whole_lines(path), strict=True), start=1):
        if wanted(entry):
            _assert_written_with(key, path, line, str(number))
            return entry
    return None


def last_entry(path: Path, key: RootKey, wanted: Callable[[AuditLogEntry], bool]) -> AuditLogEntry | None:
    """The last entry that is wanted, of a log that exists, searched from its end. Raises as `first_entry` does."""
    for start, line in large_files.lines_back(path):
        where = f"at byte {start}"
        if line.endswith(b"\n") and wanted(entry := _parsed(path, line, where)):
            _assert_written_with(key, path, line, where)
            return entry
    return None


def _assert_written_with(key: RootKey, path: Path, line: bytes, where: str) -> None:
    content = json_document.parse_json(line)
    if not hmac.compare_digest(str(content.pop("mac", "")), _mac(key, content)):
        raise vault_error(VaultErrorCode.AUDIT_FORGED, categories.AUDIT, path.name, section=where)


def _parsed(path: Path, line: bytes, where: str) -> AuditLogEntry:
    try:
        return _entry(json_document.parse_json(line))
    except (ValueError, TypeError, KeyError):
        raise _broken(path, where) from None


def _entry(content: Mapping[str, Any]) -> AuditLogEntry:
    # Parse an entry; raises KeyError, TypeError or ValueError for invalid values.
    texts = {name: content[name] for name in ("actor", "action", "category", "key_id", "outcome")}
    moment, seconds = datetime.fromisoformat(content["utc"]), content["monotonic"]
    known = all(isinstance(text, str) for text in texts.values()) and isinstance(seconds, int | float)
    if not known or moment.utcoffset() is None:
        raise ValueError("values of another kind")
    return AuditLogEntry(seq=_whole(content["seq"]), utc=moment, monotonic=seconds, **texts)


def last_rotations(path: Path) -> dict[str, datetime]:
    """When each category was last rotated, according to the log."""
    return {line.category: line.utc for line in log_entries(path) if (line.action, line.outcome) == _ROTATED}


def last_backup(path: Path) -> datetime | None:
    """When a backup was last written and verified, according to the log."""
    return backup_history(path).last


def backup_history(path: Path) -> BackupHistory:
    """What the log says of backups, not verified. Raises VaultError for an invalid line."""
    made: list[tuple[datetime, str]] = []
    drills: dict[str, tuple[datetime, bool]] = {}
    for line in log_entries(path):
        if (line.action, line.outcome) == _BACKED_UP:
            made.append((line.utc, line.key_id))
        elif line.action == "drill":
            drills[line.key_id] = line.utc, line.outcome == PASSED
    last, last_id = max(made, default=(None, ""))
    return BackupHistory(last=last, last_id=last_id, drills=drills)


def verify_chain(path: Path, key: RootKey | None, *, anchors: Sequence[AuditAnchor] = ()) -> AuditAnchor:
    """Verify the whole chain and return its head. Raises VaultError naming the first line that does not fit.

    With the key each line's HMAC is verified too; without it, a completely forged chain passes. Each anchor must match
    an existing line.
    """
    digest, number = GENESIS, 0
    hashes = {0: GENESIS}
    *lines, rest = _read(path).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not _fits(line, number, digest, key):
            raise _broken(path, str(number))
        digest = hashes[number] = _hash(line)
    if rest:
        raise vault_error(VaultErrorCode.AUDIT_TORN, categories.AUDIT, path.name)
    for anchor in sorted(anchors, key=lambda it: it.count):
        if anchor.count > number:
            raise vault_error(VaultErrorCode.AUDIT_CUT, categories.AUDIT, path.name, section=str(anchor.count))
        if hashes[anchor.count] != anchor.hash:
            raise vault_error(VaultErrorCode.AUDIT_ANCHOR, categories.AUDIT, path.name, section=str(anchor.count))
    return AuditAnchor(count=number, hash=digest)


def _fits(line: bytes, number: int, previous: str, key: RootKey | None) -> bool:
    try:
        content = json_document.parse_json(line)
    except ValueError:
        return False
    if not isinstance(content, dict) or _dump(content) != line:
        return False
    mac = content.pop("mac", None)
    proven = key is None or mac == _mac(key, content)
    return proven and content.get("seq") == number and content.get("previous") == previous


def _read(path: Path) -> bytes:
    return filesystem.read_bytes(path) if filesystem.is_present(path) else b""


def _whole_lines(path: Path) -> list[bytes]:
    return _read(path).split(b"\n")[:-1]


def _whole(number: object) -> int:
    if not isinstance(number, int):
        raise TypeError("not a whole number")
    return number


def _dump(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), sort_keys=True).encode()


def _hash(line: bytes) -> str:
    return sha256(line).hexdigest()


def _mac(key: RootKey, content: Mapping[str, Any]) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.hmac import HMAC

    mac = HMAC(key.root.view, hashes.SHA256())
    mac.update(_LABEL + _dump(content))
    return mac.finalize().hex()


def _broken(path: Path, where: str) -> VaultError:
    return vault_error(VaultErrorCode.AUDIT_BROKEN, categories.AUDIT, path.name, section=where)
