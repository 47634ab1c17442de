"""The results of downloads and of an import of bars: as documents, and as sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.actions.assembly import environment_rehearsal
from tbot_core.contracts.series import VIX
from tbot_core.model.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tbot_core.backtest.data_download import DownloadRequest, DownloadResult
    from tbot_core.engine.daily_series import SeriesDownload
    from tbot_core.marketdata.store.importer import ImportedFile, RefusedFile
    from tbot_core.status import Document

_MOST_NAMED: Final = 4
_MOST_CHANGED: Final = 10
_COUNTS: Final = {
    "added": "added",
    "unchanged": "already stored",
    "replaced": "replaced",
    "dropped": "outside regular hours dropped",
    "repeated": "repeated",
    "rounded": "rounded to 0.0001",
    "holidays": "holidays left out",
}


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


def import_document(
    imported: Sequence[ImportedFile], refused: Sequence[RefusedFile], not_searched: Sequence[str] = ()
) -> Document:
    """The result for JSON: each imported file with its counts of rows, each refused one with the reason, and sums.

    `not_searched` are subfolders.
    """
    return {
        "files": [attrs.asdict(one) for one in imported],
        "refused": [attrs.asdict(one) for one in refused],
        "not_searched": list(not_searched),
        "added": sum(one.added for one in imported),
        "replaced": sum(one.replaced for one in imported),
    }


def import_sentences(found: Document) -> Iterator[str]:
    """The document as sentences: what each imported file held, and the sums; the reasons of refused ones are apart."""
    for file in found["files"]:
        names = ", ".join(file["symbols"][:_MOST_NAMED])
        if len(file["symbols"]) > _MOST_NAMED:
            names += f" and {len(file['symbols']) - _MOST_NAMED} more"
        what = f"{file['kind']}{f' of {names}' if names else ''}, {file['first']} to {file['last']}"
        counted = ", ".join(f"{file[name]} {word}" for name, word in _COUNTS.items() if file[name])
        same = "" if file["added"] or file["replaced"] else " No change."
        yield f"{file['file']}: {what}: {counted}.{same}"
    added, replaced = plural(found["added"], "row"), found["replaced"]
    words = f"{plural(len(found['files']), 'file')} read: {added} added, {replaced:,} replaced"
    yield f"{words}; {len(found['refused'])} refused." if found["refused"] else f"{words}."


def series_document(result: SeriesDownload) -> Document:
    """The download of a series for JSON: source, days added, stored days that differ, and faults of other sources."""
    merge = result.merge
    return {
        "series": result.name,
        "source": result.source,
        "last": merge.last.isoformat(),
        "added": merge.added,
        "changed": [{**attrs.asdict(one), "day": one.day.isoformat(), "words": one.text} for one in merge.changed],
        "faults": {name: str(fault) for name, fault in result.faults.items()},
    }


def series_sentences(found: Document) -> Iterator[str]:
    """The document as sentences: what was added, and each stored day whose published value differs."""
    for name, words in found["faults"].items():
        yield f"{name}: {words}"
    yield f"{found['source']}: {found['series']} to {found['last']}: {plural(found['added'], 'day')} added."
    for one in found["changed"][:_MOST_CHANGED]:
        yield f"{one['words']}; the stored value stays."
    if more := found["changed"][_MOST_CHANGED:]:
        yield f"The same on {plural(len(more), 'more day')}."
    if found["changed"] and found["series"] == VIX:
        yield "`tbot data import --replace FILE` replaces stored closes of the VIX."
