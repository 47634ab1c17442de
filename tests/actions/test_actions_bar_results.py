"""What an import and a download say of their results."""

from __future__ import annotations

from tbot_core.actions.bar_results import series_sentences


def test_a_download_of_a_series_says_what_was_added_and_what_differs() -> None:
    """Other sources' faults come first; stored values stay, and only closes of the VIX can be replaced by an import."""
    changed = [{"words": f"{day} is 2, stored is 1"} for day in range(1, 30)]
    found = {"source": "cboe", "series": "vix", "last": "2026-11-30", "added": 1, "changed": changed}
    said = list(series_sentences({**found, "faults": {"fred": "It does not respond."}}))
    assert said[:3] == [
        "fred: It does not respond.",
        "cboe: vix to 2026-11-30: 1 day added.",
        "1 is 2, stored is 1; the stored value stays.",
    ]
    assert "more days." in said[-2]
    assert said[-1] == "`tbot data import --replace FILE` replaces stored closes of the VIX."
    (alone,) = series_sentences({**found, "series": "rates", "changed": [], "faults": {}})
    assert alone == "cboe: rates to 2026-11-30: 1 day added."
