"""Daily series of extensions: which source counts, what is refreshed before the bell, and the table of rates."""

from __future__ import annotations

import asyncio
import datetime as dt
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts import Host, Plugin, PluginNeeds
from tbot_core.contracts.series import RATES, VIX, DailyValue
from tbot_core.contracts.setting import NoSettings
from tbot_core.engine.daily_series import SeriesRefresher, download_series, rate_table, series_sources
from tbot_core.errors import DataError, PluginError, Rejected, Unavailable
from tbot_core.marketdata.history import add_reference_facts
from tbot_core.marketdata.store import manifest, reference
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.clock import ManualClock
from tbot_core.plugins.call_guard import CallGuard
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.loader import LoadedPlugin
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


CALENDAR = ExchangeCalendar()
TODAY = CALENDAR.next(dt.date(2026, 12, 1))
BEFORE = dt.date(2026, 12, 1)
MORNING = dt.datetime(2026, 12, 2, 13, tzinfo=dt.UTC)
DAYS = [TODAY.date - dt.timedelta(days=back) for back in range(40, 0, -1)]
CLOSES = [DailyValue(day=day, value=16.2) for day in DAYS if day.weekday() < 5]
FUNDS = [DailyValue(day=day, value=0.0364, code="US") for day in DAYS]


class Source:
    """An extension that publishes these values, fails, or never answers; `asked` are the names of the requests."""

    def __init__(self, values: Sequence[DailyValue] | None = CLOSES, fault: Exception | None = None) -> None:
        self.values, self.fault, self.asked = values, fault, list[str]()

    async def daily_series(self, name: str) -> Sequence[DailyValue]:
        """The values, whatever the name."""
        self.asked.append(name)
        if self.fault is not None:
            raise self.fault
        if self.values is None:
            await asyncio.Event().wait()
        return self.values or ()


def extension(name: str, made: object, series: tuple[str, ...] = (VIX,)) -> tuple[LoadedPlugin, object]:
    """An extension of a run."""
    entry = EntryPointInfo(kind="extension", name=name, target="acme", dist="acme", version="1", requires=())
    offered = Plugin(
        name=name,
        summary="A series",
        config=NoSettings,
        create=lambda _config, _context: made,
        needs=PluginNeeds(hosts={"data": Host("https://example.com")}),
        series=series,
    )
    return LoadedPlugin(entry=entry, plugin=offered, subject=object()), made


def bench(folder: Path, *extensions: tuple[LoadedPlugin, object], **changes: Any) -> Any:
    """The parts of a run that a download needs; `reads` and `check_table` are those of its other plugins."""
    instance = SimpleNamespace(
        bars=folder / "bars", data=folder, downloads=folder / "downloads", rehearsal=changes.get("rehearsal", "")
    )
    return SimpleNamespace(
        settings=SimpleNamespace(instance=instance, texts=changes.get("texts", {})),
        calendar=CALENDAR,
        clock=ManualClock(MORNING),
        call_guard=CallGuard(strict=False),
        extensions=extensions,
        listings=(),
        reads_table=lambda _name: changes.get("reads", False),
        check_table=changes.get("check_table", lambda _name, _folder: None),
    )


def refreshed(subject: SeriesRefresher, session: Session = TODAY) -> tuple[str, ...]:
    """What went wrong in a refresh."""
    return asyncio.run(subject.refresh(session))


def stored(folder: Path) -> dict[dt.date, float]:
    """The stored closes of the VIX."""
    return dict(reference.reference_facts(folder / "bars").vix)


def test_the_first_source_whose_answer_is_plausible_counts(tmp_path: Path) -> None:
    """In the order of names; the faults of those before are returned with it, and those after are not asked."""
    last = Source()
    assembly = bench(
        tmp_path,
        extension("a", Source(fault=Unavailable("no answer"))),
        extension("b", Source([*CLOSES[::-1]])),
        extension("c", Source(fault=ValueError("a bug"))),
        extension("d", Source(None)),
        extension("e", Source()),
        extension("f", last),
        extension("g", Source(), series=(RATES,)),
        extension("h", object()),
    )
    assert list(series_sources(assembly, VIX)) == ["a", "b", "c", "d", "e", "f"]
    found = asyncio.run(download_series(assembly, VIX, limit_s=0.01))
    assert (found.source, found.merge.added, list(found.faults), last.asked) == (
        "e",
        len(stored(tmp_path)),
        ["a", "b", "c", "d"],
        [],
    )
    assert found.faults["d"].message == "d has not answered within 0.01 s."
    assert asyncio.run(download_series(assembly, VIX, "f")).source == "f"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "No enabled extension publishes the series rates. Install one, or enable it in EXTENSIONS of .env"),
        ("a", "--source a: no enabled extension of this name publishes the series rates."),
    ],
)
def test_without_a_source_the_remedy_is_named(tmp_path: Path, source: str | None, words: str) -> None:
    """No extension publishes it, or none of this name."""
    with pytest.raises(PluginError) as refused:
        asyncio.run(download_series(bench(tmp_path, extension("a", Source())), RATES, source))
    assert str(refused.value).startswith(words)


def test_another_source_than_the_enabled_ones_is_answered_with_their_names(tmp_path: Path) -> None:
    """So that a misspelling is found."""
    with pytest.raises(PluginError, match="These do: a"):
        asyncio.run(download_series(bench(tmp_path, extension("a", Source())), VIX, "b"))


@pytest.mark.parametrize("fault", [Unavailable("no way"), Rejected("403 Forbidden"), DataError("refused")])
def test_the_first_fault_is_raised_where_no_source_can_be_used(tmp_path: Path, fault: Exception) -> None:
    """With what the others answered in its remedy; nothing is stored."""
    assembly = bench(tmp_path, extension("a", Source(fault=fault)), extension("b", Source(())))
    with pytest.raises((type(fault), PluginError)) as raised:
        asyncio.run(download_series(assembly, VIX))
    assert str(raised.value).endswith("Asked too: The series vix of b was refused: it has no value.")
    assert stored(tmp_path) == {}


def test_the_close_of_the_session_before_is_downloaded_once(tmp_path: Path) -> None:
    """The second source is not asked, and neither is the first one again, when the store has the day."""
    first, second = Source(), Source()
    subject = SeriesRefresher(bench(tmp_path, extension("a", first), extension("b", second)))
    assert [refreshed(subject) for _ in range(3)] == [(), (), ()]
    assert (first.asked, second.asked) == ([VIX], [])
    assert stored(tmp_path)[BEFORE] == 16.2
    tomorrow = CALENDAR.next(TODAY.date)
    assert refreshed(subject, tomorrow) == (
        "Series vix: a: no value of 2026-12-02 yet; b: no value of 2026-12-02 yet.",
    )


def test_a_stored_close_needs_no_source(tmp_path: Path) -> None:
    """As after an import, or of a data source that has the index."""
    add_reference_facts(tmp_path / "bars", {BEFORE: 20.0}, {})
    source = Source()
    assert refreshed(SeriesRefresher(bench(tmp_path, extension("a", source)))) == ()
    assert source.asked == []


def test_a_failure_is_one_sentence_and_is_tried_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second source is asked where the first one fails; a session then goes on with what is stored."""
    first, second = Source(fault=Unavailable("503 from the server.")), Source(fault=Rejected("403 Forbidden"))
    subject = SeriesRefresher(bench(tmp_path, extension("a", first), extension("b", second)))
    said = ("Series vix: a: 503 from the server; b: 403 Forbidden.",)
    assert [refreshed(subject) for _ in range(4)] == [said] * 4
    assert first.asked == second.asked == [VIX, VIX]
    assert caplog.text.count("series.not_refreshed") == 4
    second.fault = None
    assert refreshed(SeriesRefresher(bench(tmp_path, extension("a", first), extension("b", second)))) == ()


def test_a_changed_value_is_reported_and_kept(tmp_path: Path) -> None:
    """Also when the session begins: the day's file is not asked for again."""
    add_reference_facts(tmp_path / "bars", {CLOSES[0].day: 44.0}, {})
    subject = SeriesRefresher(bench(tmp_path, extension("a", Source())))
    words = "on 1 day it publishes another value than the stored one, which stays"
    said = (f"Series vix: a: {words}; the last {CLOSES[0].day}: stored 44, published 16.2.",)
    assert (refreshed(subject), refreshed(subject)) == (said, said)
    assert stored(tmp_path)[CLOSES[0].day] == 44.0


def test_a_store_that_cannot_be_read_or_written_ends_no_session(tmp_path: Path) -> None:
    """The reason is a sentence."""
    assembly = bench(tmp_path, extension("a", Source()))
    filesystem.make_folder(tmp_path / "bars")
    with filesystem.hold_lock(tmp_path / "bars" / manifest.LOCK):
        (said,) = refreshed(SeriesRefresher(assembly))
    assert said.startswith("Series vix: a: ")
    (tmp_path / "bars" / manifest.FACTS).write_text("{")
    (said,) = refreshed(SeriesRefresher(assembly))
    assert "facts.json is damaged" in said


def test_a_rehearsal_asks_only_sources_with_a_server(tmp_path: Path) -> None:
    """The others would need the vendor."""
    given = extension("a", Source()), extension("b", Source())
    assembly = bench(tmp_path, *given, rehearsal="one", texts={"HOST_B_DATA": "http://127.0.0.1:1"})
    assert list(series_sources(assembly, VIX)) == ["b"]


def test_rates_are_refreshed_where_a_plugin_reads_their_table(tmp_path: Path) -> None:
    """Once a session; the table has the last rate, in force from the day after."""
    source = Source(FUNDS)
    refreshed(SeriesRefresher(bench(tmp_path, extension("a", source, series=(RATES,)))))
    assert source.asked == []
    subject = SeriesRefresher(bench(tmp_path, extension("a", source, series=(RATES,)), reads=True))
    assert [refreshed(subject), refreshed(subject)] == [(), ()]
    assert source.asked == [RATES]
    table = (tmp_path / "downloads" / "rates.csv").read_text().splitlines()
    assert table == [
        "code,date,rate,source",
        f"US,{DAYS[1]},0.036400000,a",
        f"US,{TODAY.date},0.036400000,a",
    ]


def test_a_table_that_a_plugin_refuses_is_not_put_in_place(tmp_path: Path) -> None:
    """The one before stays, and the fault says so."""

    def refuse(name: str, folder: Path) -> None:
        assert (folder / name).read_text().startswith("code,date,rate,source\n")
        raise PluginError("The filter acme could not be created.")

    assembly = bench(tmp_path, extension("a", Source(FUNDS), series=(RATES,)), reads=True, check_table=refuse)
    assert refreshed(SeriesRefresher(assembly)) == ("Series rates: a: The filter acme could not be created.",)
    assert not filesystem.exists(tmp_path / "downloads" / "rates.csv")


def test_the_table_of_rates_has_the_changes_and_the_last_day_of_each_code() -> None:
    """So that it is short, and its last date says how old it is."""
    day = dt.date(2026, 11, 1)

    def values(code: str, *rates: float) -> list[tuple[DailyValue, str]]:
        days = (day + dt.timedelta(days=number) for number in range(len(rates)))
        return [(DailyValue(day=at, value=rate, code=code), "acme") for at, rate in zip(days, rates, strict=True)]

    text = rate_table([*values("CH", -0.0075), *values("US", 0.04, 0.04, 0.05, 0.05, 0.05)])
    assert text.splitlines()[1:] == [
        "CH,2026-11-02,-0.007500000,acme",
        "US,2026-11-02,0.040000000,acme",
        "US,2026-11-04,0.050000000,acme",
        "US,2026-11-06,0.050000000,acme",
    ]
    assert rate_table([]) == "code,date,rate,source\n"
