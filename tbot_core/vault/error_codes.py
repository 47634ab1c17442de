"""The error codes of secrets: stable numbers, messages and remedies."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from tbot_core.errors import VaultError
from tbot_core.vault.categories import AUDIT

if TYPE_CHECKING:
    from collections.abc import Sequence

_RESTORE_KEY: Final = "Restore it from a backup, or run `tbot secrets rekey {category}` and enter the values again."
_OTHER_PATH: Final = "It is another file: name the path of a key in `.env`, or move the file away."
_RESTORE_AUDIT_KEY: Final = (
    "Restore it from a backup. Without one keep data/audit.* and data/tbot.sqlite* elsewhere as evidence: "
    "tbot then begins new ones."
)
_RESTORE_FILE: Final = "Restore it from a backup, or enter the values again with `tbot secrets set {category}`."
_ACCEPT: Final = (
    "If there is none, compare the journal with the heads in collected logs (`chain.heads`), then run `tbot audit "
    "accept`."
)
_DISK: Final = "The previous file is still there; fix the disk, then try again."
_NEWER: Final = "A newer tbot is needed to read it: update tbot."
_ENTER: Final = "Correct it with `tbot secrets edit {category}`."
_COPY: Final = "Use another copy of it."


class VaultErrorCode(enum.Enum):
    """A fault: number, message about {file}, and remedy."""

    FILE_EMPTY = (1, "its file {file} is empty", _RESTORE_FILE)
    FORMAT_UNKNOWN = (2, "its file {file} is not in an encryption format of tbot", _RESTORE_FILE)
    TOKEN_TOO_LONG = (3, "its file {file} holds more than 1 MiB", _RESTORE_FILE)
    TOKEN_ALPHABET = (
        4,
        "its file {file} is damaged: it contains a character that no encrypted file has",
        _RESTORE_FILE,
    )
    TOKEN_CANONICAL = (5, "its file {file} is not encoded as a token of tbot", _RESTORE_FILE)
    TOKEN_SHORT = (6, "its file {file} is truncated", _RESTORE_FILE)
    TOKEN_MAGIC = (7, "its file {file} does not begin as a token does", _RESTORE_FILE)
    TOKEN_VERSION = (8, "its file {file} has a version that this tbot does not support", _NEWER)
    TOKEN_ALGORITHM = (9, "its file {file} uses an algorithm that this tbot does not support", _NEWER)
    TOKEN_KEY_ID = (10, "its file {file} was encrypted with a key that is not among its keys", _RESTORE_KEY)
    TOKEN_TAG = (11, "its file {file} was changed, or belongs to another category", _RESTORE_FILE)
    FERNET_ALPHABET = (
        12,
        "its Fernet file {file} is damaged: it contains a character that no encrypted file has",
        _RESTORE_FILE,
    )
    FERNET_CANONICAL = (13, "its Fernet file {file} is not encoded as a Fernet token", _RESTORE_FILE)
    FERNET_SHORT = (14, "its Fernet file {file} is truncated", _RESTORE_FILE)
    FERNET_BLOCKS = (15, "its Fernet file {file} lacks a part", _RESTORE_FILE)
    FERNET_TAG = (16, "its Fernet file {file} was changed, or none of its keys opens it", _RESTORE_KEY)
    PLAINTEXT_LONG = (17, "the new content of {file} is longer than a token may be", "Shorten it.")
    PLAINTEXT_EMPTY = (18, "the new content of {file} is empty", "Enter the values.")
    KEY_FOLDER_MISSING = (20, "the folder of its key file {file} is missing", _RESTORE_KEY)
    KEY_MISSING = (21, "its key file {file} is missing", _RESTORE_KEY)
    KEY_DENIED = (22, "its key file {file} cannot be read: permission denied", "Run tbot as the user who owns it.")
    KEY_FAULT = (23, "its key file {file} could not be read or written: disk error", _DISK)
    KEY_SYMLINK = (24, "its key file {file} is a symbolic link", "Replace the link by the key file itself.")
    KEY_NOT_REGULAR = (25, "its key file {file} is not a regular file", _OTHER_PATH)
    KEY_OWNER = (26, "its key file {file} belongs to another user", "chown {file} to the user who runs tbot.")
    KEY_LINKS = (27, "its key file {file} has more than one hard link", "Remove the other hard links.")
    KEY_TOO_LARGE = (28, "its key file {file} is too large to be a key", _OTHER_PATH)
    KEY_MODE = (29, "other users may read or write its key file {file}", "chmod 600 {file}")
    KEY_FOLDER_MODE = (30, "other users may enter the folder of its key file {file}", "chmod 700 {folder}")
    KEY_FOLDER_OWNER = (
        31,
        "the folder of its key file {file} belongs to another user",
        "chown {folder} to the user who runs tbot.",
    )
    KEY_BOM = (32, "its key file {file} begins with a byte order mark", "Save it as plain ASCII, without the mark.")
    KEY_CRLF = (33, "its key file {file} has Windows line endings", "Save it with Unix line endings.")
    KEY_LENGTH = (34, "its key file {file} does not hold exactly 44 characters", _RESTORE_KEY)
    KEY_ALPHABET = (35, "its key file {file} contains a character that no key has", _RESTORE_KEY)
    KEY_CANONICAL = (36, "its key file {file} is not encoded as a key", _RESTORE_KEY)
    KEY_CONSTANT = (37, "its key file {file} repeats one byte and protects nothing", _RESTORE_KEY)
    KEY_SHARED = (
        38,
        "its key file {file} holds the key of another category too",
        "Give each its own with `tbot secrets rekey {category}`.",
    )
    KEY_EXISTS = (39, "its key file {file} exists already", "Keep it, or run `tbot secrets rotate {category}`.")
    KEY_FULL = (40, "its key file {file} could not be written: the disk is full", "Free some space, then try again.")
    KEY_READ_ONLY = (
        41,
        "its key file {file} could not be written: the file system is read-only",
        "Mount it writable, then try again.",
    )
    KEY_UNPROVEN = (42, "its key file {file} read back differently than it was written", _DISK)
    ENV_KEY_DISAGREES = (
        43,
        "ENV_ENC_KEY_PATH names another key file than {file}",
        "Set ENV_ENC_KEY_PATH and TBOT_ENV_ENC_KEY_PATH to the same file.",
    )
    FILE_FOLDER_MISSING = (50, "the folder of its file {file} is missing", _RESTORE_FILE)
    FILE_MISSING = (
        51,
        "its file {file} is missing",
        "Enter the values with `tbot secrets set {category}`, or restore it from a backup.",
    )
    FILE_DENIED = (52, "its file {file} cannot be used: permission denied", "Run tbot as the user who owns it.")
    FILE_FAULT = (53, "its file {file} could not be read or written: disk error", _DISK)
    FILE_SYMLINK = (54, "its file {file} is a symbolic link", "Replace the link by the file itself.")
    FILE_NOT_REGULAR = (55, "its file {file} is not a regular file", _RESTORE_FILE)
    FILE_OWNER = (56, "its file {file} belongs to another user", "chown {file} to the user who runs tbot.")
    FILE_LINKS = (57, "its file {file} has more than one hard link", "Remove the other hard links.")
    FILE_MODE = (59, "other users may read or write its file {file}", "chmod 600 {file}")
    FILE_FOLDER_OPEN = (60, "other users may replace its file {file}", "chmod go-w {folder}")
    FILE_FOLDER_OWNER = (
        61,
        "the folder of its file {file} belongs to another user",
        "chown {folder} to the user who runs tbot.",
    )
    FILE_FULL = (62, "its file {file} could not be written: the disk is full", _DISK)
    FILE_READ_ONLY = (63, "its file {file} could not be written: the file system is read-only", _DISK)
    FILE_UNPROVEN = (64, "the new version of its file {file} could not be decrypted again", _DISK)
    SECTION_SPELT_TWICE = (
        69,
        "its file {file} has two sections of one plugin in other spelling: {section}",
        "Keep one of them, in lower case, with `tbot secrets edit {category}`.",
    )
    CONTENT_UTF8 = (70, "the content of its file {file} is not UTF-8 text", _ENTER)
    CONTENT_JSON = (71, "the content of its file {file} is not JSON", _ENTER)
    CONTENT_OBJECT = (72, "the content of its file {file} is not a JSON object", _ENTER)
    CONTENT_REPEATED = (73, "the content of its file {file} names a field twice", _ENTER)
    CONTENT_ABSENT = (74, "its file {file} has no section {section}", _ENTER)
    CONTENT_SECTION = (75, "section {section} of its file {file} is not a JSON object", _ENTER)
    CONTENT_EMPTY = (76, "field {section} of its file {file} is empty", _ENTER)
    CONTENT_UNKNOWN = (77, "its file {file} has an unknown field {section}; known: {allowed}", _ENTER)
    CONTENT_LACKING = (78, "its file {file} lacks the field {section}: {allowed}", _ENTER)
    CONTENT_WRONG = (79, "field {section} of its file {file} is not {allowed}", _ENTER)
    PROVIDER_FAILED = (80, "the key provider failed to read or write the key of {file}", "Fix the key provider.")
    PROVIDER_KEY = (81, "the key provider returned no 32-byte key for {file}", "Fix the key provider.")
    PROVIDER_FIXED = (
        82,
        "its key provider cannot change the key of {file}",
        "Choose key files or the system's keyring, and enter the values again.",
    )
    PASSPHRASE_HEADER = (
        83,
        "the header {file} of the passphrase is missing or damaged",
        "Restore it from a backup; without it the passphrase decrypts nothing.",
    )
    PASSPHRASE_WRONG = (84, "the passphrase does not match the header {file}", "Enter the passphrase again.")
    KEYRING_ABSENT = (
        85,
        "the key of {file} is in a keyring, and the package keyring is not installed",
        "Install tbot-core[keyring].",
    )
    KEYRING_BACKEND = (
        86,
        "the system keyring stores nothing, or stores it unencrypted, so it cannot hold the key of {file}",
        "Set up an encrypting keyring, or choose key files.",
    )
    KEYRING_LOCKED = (87, "the system keyring did not return the key of {file}", "Unlock the keyring.")
    PROVIDER_UNKNOWN = (
        88,
        "TBOT_KEY_PROVIDER={section} is not a known key provider, but {file} needs one",
        "Choose file, passphrase, keyring or plugin.",
    )
    PROVIDER_ABSENT = (
        89,
        "no plugin provides the key of {file}",
        "Install the plugin, or choose another key provider.",
    )
    VAULT_BUSY = (
        90,
        "another tbot process is writing secrets, including {file}",
        "Wait until it has finished, then try again.",
    )
    ROTATION_BEGUN = (
        91,
        "a rotation of its key {file} was interrupted",
        "Run `tbot secrets rotate --resume`, or `--abort`.",
    )
    ROTATION_UNPROVEN = (
        92,
        "its file {file} does not decrypt with the new key alone",
        "Nothing was deleted: run `tbot secrets rotate --abort`.",
    )
    AUDIT_UNWRITABLE = (
        95,
        "the access could not be written to {file}, so it was refused",
        "Fix the disk or free some space.",
    )
    AUDIT_BROKEN = (
        96,
        "line {section} of {file} was changed, added, moved or removed",
        "Compare with a backup; nothing after the last good line can be trusted.",
    )
    AUDIT_CUT = (97, "{file} ends before line {section}, which an anchor names", "Compare with a backup.")
    AUDIT_ANCHOR = (98, "line {section} of {file} differs from the line that an anchor names", "Compare with a backup.")
    AUDIT_TORN = (99, "the last line of {file} is incomplete", "None needed: the next access removes it.")
    AUDIT_GONE = (
        113,
        "{file} is missing, but its key is there; without the log the journal's chain cannot be judged",
        f"Restore it from a backup. {_ACCEPT}",
    )
    AUDIT_JOURNAL_UNSAID = (
        114,
        "no line of {file} says from which event on the journal's chain is keyed",
        f"Run `tbot audit accept` if the journal is older than the key. Else restore {{file}} from a backup. {_ACCEPT}",
    )
    AUDIT_FORGED = (
        115,
        "line {section} of {file} was not written with the key of the audit log",
        f"Restore {{file}} from a backup, and keep this one elsewhere as evidence. {_ACCEPT}",
    )
    BUNDLE_FORMAT = (
        100,
        "{file} is not a bundle of tbot",
        "Give a file that `tbot secrets export` or `tbot secrets backup` wrote.",
    )
    BUNDLE_LONG = (101, "the bundle {file} holds more than 16 MiB", _COPY)
    BUNDLE_CANONICAL = (102, "the bundle {file} is not encoded as a bundle of tbot", _COPY)
    BUNDLE_SHORT = (103, "the bundle {file} is truncated", _COPY)
    BUNDLE_VERSION = (104, "the bundle {file} has a version that this tbot does not support", _NEWER)
    BUNDLE_ALGORITHM = (105, "the bundle {file} uses an algorithm that this tbot does not support", _NEWER)
    BUNDLE_KIND = (
        106,
        "the bundle {file} is not of the kind {section}",
        "`tbot secrets import` reads an export, `tbot secrets restore` a backup.",
    )
    BUNDLE_PASSPHRASE = (
        107,
        "the passphrase does not match the bundle {file}",
        "Enter the passphrase again; if it is right, use another copy of the bundle.",
    )
    BUNDLE_TAG = (108, "the bundle {file} was changed since it was written", _COPY)
    BUNDLE_CONTENT = (109, "the bundle {file} contains {section}, which this tbot does not support", _NEWER)
    BUNDLE_PASSPHRASE_SHORT = (
        110,
        "the passphrase of the bundle {file} has fewer than 12 characters",
        "Choose a longer one: anyone with the bundle can try as many as they like.",
    )
    RESTORE_STANDS = (
        111,
        "the backup would overwrite {file}",
        "Choose an empty folder with --home, or move the files away.",
    )
    RESTORE_PROVIDER = (
        112,
        "the key provider returns another key of {file} than the backup holds",
        "Set TBOT_KEY_PROVIDER to the provider that was used for the backup, or to file.",
    )

    def __init__(self, number: int, sentence: str, remedy: str) -> None:
        self.number = number
        self.sentence = sentence
        self.remedy = remedy

    @property
    def text(self) -> str:
        """The code as shown, such as TB-SEC-021."""
        return f"TB-SEC-{self.number:03}"


CODE_BY_TEXT: Final = {code.text: code for code in VaultErrorCode}
"""Every code by its text."""


def vault_error(code: VaultErrorCode, category: str, file: str, *, section: str = "", allowed: str = "") -> VaultError:
    """Create the error of a code: it names category, file and remedy, never a value."""
    folder = file.rpartition("/")[0] or "."
    remedy = code.remedy
    if category == AUDIT and remedy == _RESTORE_KEY:  # no command renews this key
        remedy = _RESTORE_AUDIT_KEY
    values = {"category": category, "file": file, "folder": folder, "section": section, "allowed": allowed}
    message = f"{code.text} {category}: {code.sentence.format(**values)}."
    return VaultError(message, remedy.format(**values), code=code.text)


def combined_error(faults: Sequence[VaultError]) -> VaultError:
    """Combine several errors of one category, with code and remedy of the first; ValueError for none."""
    first, *others = faults
    message = "\n".join((first.message, *(other.message for other in others)))
    return VaultError(message, first.remedy, code=first.code)
