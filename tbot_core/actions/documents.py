"""Documents that a person hands over: their text and their JSON value, within a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tbot_core.errors import UsageError
from tbot_core.model import json_document

if TYPE_CHECKING:
    from typing import TextIO

DOCUMENT_CHARACTERS: Final = 16 * 1_048_576


def document_text(document: TextIO, *, limit: int = DOCUMENT_CHARACTERS) -> str:
    """The text of a document. Raises UsageError if it is too long, or not UTF-8."""
    try:
        text = document.read(limit + 1)
    except UnicodeDecodeError:
        raise UsageError("The document is not UTF-8 text.", "Save it as UTF-8.") from None
    if len(text) > limit:
        raise UsageError(f"The document has more than {limit:,} characters.", "Choose another file.")
    return text


def document_json(document: TextIO) -> Any:
    """The JSON value of a document. Raises UsageError with the place of a fault, not its text."""
    try:
        return json_document.parse_json(document_text(document))
    except json_document.InvalidJson as fault:
        name = getattr(document, "name", "<stdin>")
        source = "Standard input" if name == "<stdin>" else name
        raise UsageError(f"{source}: {fault}.", "Correct the JSON input.") from None
