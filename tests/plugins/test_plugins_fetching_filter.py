"""The filter of docs/reference/filters.md: its code keeps the contract, and fetches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tbot_core.contracts import Plugin, SupportsRefresh
from tbot_core.plugins.answer_checks import checked_facts

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "filters.md").read_text(encoding="utf-8")
CODE = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))

NAMES: dict[str, Any] = {"__name__": "acme_ratings"}
exec(compile(CODE, "docs/reference/filters.md", "exec", dont_inherit=True), NAMES)

TestDocumentedContract: type[Any] = NAMES["TestContract"]  # pytest collects the page's own tests
test_documented_refresh = NAMES["test_a_rating_is_fetched"]


def test_the_offer_fetches_what_it_declares() -> None:
    """Its host has a limit, its secrets a class, and the core takes what it returns."""
    offer = NAMES["tbot_filter"]()
    assert isinstance(offer, Plugin)
    assert offer.needs.sentence == "secrets screener_api; hosts api.example.com"
    subject = NAMES["Ratings"](NAMES["Config"](), None)
    assert isinstance(subject, SupportsRefresh)
    assert checked_facts({"AAPL": {"rating": 4.5}}, subject.facts, ["AAPL", "XYZ"])
