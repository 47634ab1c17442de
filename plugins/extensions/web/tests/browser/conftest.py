"""The cases of this folder drive an installed Chromium; without one they are skipped."""

from __future__ import annotations

import pytest
from web_browser import CHROMIUM


@pytest.fixture(autouse=True, scope="session")
def installed() -> None:
    """Skip where no Chromium is installed."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
