"""Runs and backtests with their reports; they, downloads and imports are started here as processes of their own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import HTMLResponse, Response

from tbot_core.actions.simulations import (
    ImportRequest,
    SimulationRequest,
    cancel_simulation,
    receive_file,
    simulation_document,
    simulation_documents,
    start_simulation,
)
from tbot_core.engine.assembly import SIMULATOR
from tbot_core.engine.bootstrap import data_source_name
from tbot_core.errors import TbotError, UsageError
from tbot_core.instance import Instance
from tbot_core.instance.sources import read_settings_files
from tbot_core.marketdata.store.daily_facts import look_back_sessions
from tbot_core.marketdata.store.listing import list_store
from tbot_core.marketdata.store.source_readers import SUFFIXES
from tbot_core.marketdata.store.store import NO_BARS
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.plugins.discovery import installed_plugins
from tbot_core.status.run_list import report_file, report_prices, run_list
from tbot_core.system import filesystem
from tbot_extension_web.forms import LargeFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from tbot_core.actions.simulations import ReceivedFile
    from tbot_extension_web.call import Call

_HASH: Final = r"'sha256-[A-Za-z0-9+/]{43}='"
_REPORT_POLICY: Final = re.compile(rf"script-src ({_HASH}); style-src ({_HASH})\"")
_REPORT_HEAD: Final = 4000
_NOTHING: Final[Mapping[str, str]] = {}


UPLOAD: Final = LargeFile(
    field="file",
    most_bytes=500_000_000,
    within_s=1_800,
    larger="Nothing of it was kept. `tbot data import PATH` reads larger files at the machine.",
    receive=receive_file,
)
"""The file of an import."""

_FIELDS: Final = {
    "with --zone, as in --zone UTC": 'under "Time zone", as in UTC',
    "with --as-of DATE": 'under "Known on"',
    "with --symbol": 'under "Symbol"',
    "--replace": '"Replace stored values that differ"',
    "--mapping": "--mapping, which is an option of `tbot data import`",
}
"""What the form of an import has in the place of options."""


async def show(call: Call) -> Response:
    """The runs, what was started here, and the form that starts more."""
    return await _page(call)


async def start(call: Call) -> Response:
    """Start a backtest, a replay or a download of bars, and show its progress."""
    try:
        request = await call.work(SimulationRequest.of_texts, call.form)
        now = call.site.clock.now()
        name = await call.work(start_simulation, call.site.home, request, call.actor, now)
    except UsageError as fault:
        return await _page(call, fault, call.form)
    return call.to(f"/runs/started/{name}")


async def start_import(call: Call) -> Response:
    """Start the import of the file that was sent, and show its progress."""
    try:
        request = ImportRequest.of_texts(_received(call), call.form)
        name = await call.work(start_simulation, call.site.home, request, call.actor, call.site.clock.now())
    except UsageError as fault:
        return await _page(call, fault, {**call.form, "kind": "import"})
    return call.to(f"/runs/started/{name}")


async def show_started(call: Call) -> Response:
    """The progress of what was started, and its result at the end."""
    return call.page("run_started.html", **await _started(call))


async def progress(call: Call) -> Response:
    """The same as a part of the page."""
    return call.page("parts/run_progress.html", **await _started(call))


async def cancel(call: Call) -> Response:
    """Interrupt it; one that has ended stays as it is."""
    name = call.request.path_params["id"]
    await call.work(cancel_simulation, call.site.home, name, call.actor, call.site.clock.now())
    return call.to(f"/runs/started/{name}")


async def report(call: Call) -> Response:
    """A report as it was written, apart from this page: a policy of its own, with the hashes that it carries."""
    text = await call.work(_text, call.site.home, call.request.path_params["name"], ".html")
    return HTMLResponse(text, headers={"Content-Security-Policy": report_policy(text)})


async def trades_csv(call: Call) -> Response:
    """The trades of a report, to be saved."""
    name = call.request.path_params["name"]
    text = await call.work(_text, call.site.home, name, ".csv")
    return Response(
        text, media_type="text/csv", headers={"Content-Disposition": f'attachment; filename="tbot-{name}.csv"'}
    )


def report_policy(text: str) -> str:
    """The policy for a report: only the script and style whose hashes its head names, in an origin of its own."""
    match = _REPORT_POLICY.search(text[:_REPORT_HEAD])
    script, style = ("'none'", "'none'") if match is None else match.groups()
    return (
        f"sandbox allow-scripts; default-src 'none'; script-src {script}; style-src {style}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _received(call: Call) -> ReceivedFile:
    if call.received is None:
        raise UsageError("No file was chosen.", "Choose a file of bars.")
    return call.received


def _text(home: Path, name: str, suffix: str) -> str:
    return filesystem.read_text(report_file(home, name, suffix))


async def _started(call: Call) -> dict[str, Any]:
    return await call.work(_shown, call.site.home, call.request.path_params["id"])


def _shown(home: Path, name: str) -> dict[str, Any]:
    one = simulation_document(home, name)
    if one["request"]["kind"] == "import":
        one["errors"] = [_with_fields(line) for line in one["errors"]]
    return {"one": one, "prices": _prices(home, one), "lacks_bars": _lacks_bars(one)}


def _with_fields(line: str) -> str:
    for option, field in _FIELDS.items():
        line = line.replace(option, field)
    return line


def _prices(home: Path, one: Mapping[str, Any]) -> str:
    # Whose prices a result is of, or a download has brought; "" before its end and of an import.
    result = one["result"]
    if result is None or one["request"]["kind"] == "import":
        return ""
    if one["request"]["kind"] == "download":
        return "simulated" if result["source"] == SIMULATOR else str(result["source"])
    return report_prices(home, Path(result["report"]).stem) or ("simulated" if result["simulated"] else "")


def _lacks_bars(one: Mapping[str, Any]) -> bool:
    # Whether a backtest or replay says that bars of its range are not stored.
    if one["request"]["kind"] in {"download", "import"}:
        return False
    return any(NO_BARS in line for line in (*one["errors"], *(one["result"] or {"notes": ()})["notes"]))


async def _page(call: Call, fault: UsageError | None = None, given: Mapping[str, str] = _NOTHING) -> Response:
    values = await call.compute(_listed, call.site.home, call.site.clock.now())
    return call.page("runs.html", 200 if fault is None else 400, fault=fault, given=given, **values)


def _listed(home: Path, now: datetime) -> dict[str, Any]:
    # What was run and started, and the stored days and strategies to choose from.
    started = simulation_documents(home)
    return {
        "listed": run_list(home),
        "started": [one | {"prices": _prices(home, one)} for one in started[:10]],
        "running": next((one for one in started if one["state"] == "running"), None),
        "strategies": sorted(plugin.entry.name for plugin in installed_plugins() if plugin.entry.kind == "strategy"),
        "latest": _latest(home, now),
        "upload": {"suffixes": ",".join(SUFFIXES), "most_mb": UPLOAD.most_bytes // 1_000_000},
        **_stored(home),
    }


def _latest(home: Path, now: datetime) -> dict[str, str | bool]:
    # What `tbot data download` fetches by itself: the source and the latest sessions; "" for a source not known.
    calendar = ExchangeCalendar()
    days = look_back_sessions(calendar, calendar.current(now).date)
    try:
        source = data_source_name(read_settings_files(Instance.at(home)).known_texts())
    except TbotError:
        source = ""
    return {"first": str(days[0].date), "last": str(days[-1].date), "source": source, "simulated": source == SIMULATOR}


def _stored(home: Path) -> dict[str, Any]:
    # The range of the stored bars and the number of symbols; a store that cannot be read says why.
    try:
        rows = list_store(Instance.at(home).bars, ExchangeCalendar()).symbols
    except TbotError as fault:
        return {"stored": None, "stored_fault": fault.message}
    if not rows:
        return {"stored": None, "stored_fault": ""}
    first, last = min(row.first for row in rows), max(row.last for row in rows)
    return {"stored": {"first": str(first), "last": str(last), "symbols": len(rows)}, "stored_fault": ""}
