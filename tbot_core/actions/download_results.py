"""The result of a download of past bars: as a document, and as sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.actions.assembly import environment_rehearsal
from tbot_core.model.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.engine.data_download import DownloadRequest, DownloadResult
    from tbot_core.status import Document


def download_document(request: DownloadRequest, result: DownloadResult) -> Document:
    """The result for JSON; `rehearsal_store` is the folder of the bars where they are for a rehearsal only."""
    progress = result.progress
    return {
        "source": request.source,
        "first": result.sessions[0].date.isoformat(),
        "last": result.sessions[-1].date.isoformat(),
        "sessions": len(result.sessions),
        "symbols": list(result.symbols),
        "unknown": list(result.unknown),
        "downloaded": progress.done,
        "skipped": progress.skipped,
        "bars": progress.bars,
        "invalid": progress.invalid,
        "refused": list(progress.refused),
        "facts": result.facts,
        "rehearsal_store": None if environment_rehearsal() is None else str(result.folder),
    }


def download_sentences(found: Document) -> Iterator[str]:
    """The document as sentences: what was added, what was there, and what could not be stored."""
    days = f"{plural(found['sessions'], 'session')} from {found['first']} to {found['last']}"
    symbols, bars = plural(len(found["symbols"]), "symbol"), plural(found["bars"], "bar")
    yield f"{found['source']}: {days}, {symbols}: {bars} added."
    if found["skipped"]:
        yield f"Stored already: {plural(found['skipped'], 'session')} of single symbols."
    if found["facts"]:
        yield f"{plural(found['facts'], 'fact')} of days added: closes of the VIX, capitalisations."
    if found["invalid"]:
        yield f"{plural(found['invalid'], 'invalid bar')} left out."
    if found["unknown"]:
        yield f"{found['source']} does not know {', '.join(found['unknown'])}."
    for words in found["refused"]:
        yield f"not stored: {words}. `tbot data import --replace` replaces a month whole."
    if found["rehearsal_store"] is not None:
        where = f"The bars are in {found['rehearsal_store']}, for this rehearsal only"
        yield f"{where}: the instance's own store is unchanged."
