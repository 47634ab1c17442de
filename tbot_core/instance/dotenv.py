"""Parses settings files: keys, values, line numbers and syntax faults."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Final

import attrs
from dotenv.parser import Binding, parse_stream

from tbot_core.errors import UsageError
from tbot_core.instance.findings import SettingsFinding, printable_value

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEY: Final = re.compile(r"(?=.*[a-z])[\w-]{43}=", re.ASCII)
"""A key as in key files, which looks like a name without a value. Names of settings have no lower-case letters."""

_LINE: Final = re.compile(
    r"""(?P<head>\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=\#\s]+)[^\S\r\n]*=[^\S\r\n]*)
    (?:'(?:\\'|[^'])*'|"(?:\\"|[^"])*"|[^\r\n]*?)
    (?P<tail>(?:[^\S\r\n]+\#[^\r\n]*)?[^\S\r\n]*(?:\r\n|\n|\r)?)""",
    re.VERBOSE,
)
"""A line with a value: what is before it, the value, and the comment behind it."""

LIMIT_BYTES = 256 * 1024


@attrs.frozen(kw_only=True)
class Assignment:
    """One line of a file: `key`, its `value`, and its position."""

    key: str
    value: str
    file: str
    line: int

    @property
    def where(self) -> str:
        """The location, such as `.env_bot:12`."""
        return f"{self.file}:{self.line}"


@attrs.frozen(kw_only=True)
class ParsedDotenv:
    """The entries of a file, the last of each key, in file order; and the findings."""

    entries: tuple[Assignment, ...] = ()
    findings: tuple[SettingsFinding, ...] = ()


def parse_dotenv(file: str, data: bytes) -> ParsedDotenv:
    """Parse a settings file: quotes, blanks, comments and `export` as in a shell, no `${...}`; the last of a key wins.

    Invalid lines, keys without `=` and multi-line values fail; a key repeated with another value warns.
    """
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"Byte 0x{data[error.start]:02x} is not UTF-8 text: save the file as UTF-8."
        return ParsedDotenv(findings=(SettingsFinding(level="fail", message=message, where=f"{file}:{line}"),))
    entries: dict[str, Assignment] = {}
    findings: list[SettingsFinding] = []
    for binding in parse_stream(io.StringIO(content, newline="")):
        read = _read(file, binding)
        if isinstance(read, SettingsFinding):
            findings.append(read)
        elif read is not None:
            earlier = entries.pop(read.key, None)
            if earlier is not None:
                findings.append(_repeated(read, earlier))
            entries[read.key] = read
    return ParsedDotenv(entries=tuple(entries.values()), findings=tuple(findings))


def _read(file: str, binding: Binding) -> Assignment | SettingsFinding | None:
    original = binding.original.string
    line = binding.original.line + _breaks(original[: len(original) - len(original.lstrip())])
    where = f"{file}:{line}"
    if _KEY.fullmatch(original.strip()):
        message = "The line is a key, which is not shown, not a setting: use a settings file here."
        return SettingsFinding(level="fail", message=message, where=where)
    if binding.error:  # the line may contain a secret, so it is not shown
        return SettingsFinding(level="fail", message="The line is not KEY=value.", where=where)
    if binding.key is None:
        return None
    if binding.value is None:
        message = "The line is not KEY=value: add the `=`, or remove it. It is not shown, since it may be a secret."
        return SettingsFinding(level="fail", message=message, where=where)
    if "\n" in binding.value or "\r" in binding.value:
        message = f"{printable_value(binding.key)} has a value that spans lines: a closing quote is missing."
        return SettingsFinding(level="fail", message=message, keys=(binding.key,), where=where)
    return Assignment(key=binding.key, value=binding.value, file=file, line=line)


def _breaks(blank: str) -> int:
    return blank.count("\n") + blank.count("\r") - blank.count("\r\n")


def _repeated(entry: Assignment, earlier: Assignment) -> SettingsFinding:
    same = entry.value == earlier.value
    words = " with the same value" if same else "; this line counts"
    message = f"{printable_value(entry.key)} is also on line {earlier.line}{words}."
    return SettingsFinding(level="ok" if same else "warn", message=message, keys=(entry.key,), where=entry.where)


def replace_values(text: str, changes: Mapping[str, object]) -> bytes:
    """A settings file with other values, quoted where they need it; new variables come last.

    Nothing else changes: comments, order, spelling and line ends stay. Of a repeated key the last line is changed,
    which counts. Raises UsageError for a value with a line break.
    """
    rest = {key: str(value) for key, value in changes.items()}
    if any("\n" in part or "\r" in part for pair in rest.items() for part in pair):
        raise UsageError("A setting contains a line break.", "Write each setting on one line.")
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    bindings = list(parse_stream(io.StringIO(text.removeprefix(mark), newline="")))
    last = {binding.key: position for position, binding in enumerate(bindings)}
    lines = [
        _with_value(binding.original.string, rest.pop(binding.key))
        if binding.key in rest and last[binding.key] == position
        else binding.original.string
        for position, binding in enumerate(bindings)
    ]
    end = "\r\n" if "\r\n" in text else "\n"
    if rest and lines and not lines[-1].endswith(("\n", "\r")):
        lines.append(end)
    return "".join([mark, *lines, *(f"{key}={_quoted(value)}{end}" for key, value in rest.items())]).encode()


def _with_value(line: str, value: str) -> str:
    # The line with another value; one that has the value already stays as it is spelt.
    match = _LINE.fullmatch(line)
    if match is None:  # a key without `=`
        return line.replace(line.strip(), f"{line.strip()}={_quoted(value)}")
    return f"{match['head']}{_quoted(value)}{match['tail']}"


def _quoted(value: str) -> str:
    if value == value.strip() and "#" not in value and not value.startswith(("'", '"')):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
