"""Garbage collection is paused while a command starts, and goes on as before."""

from __future__ import annotations

import gc

import pytest

from tbot_core.system.garbage import kept_start


@pytest.mark.parametrize("enabled", [True, False])
def test_a_start_is_not_looked_through_and_the_rest_is(enabled: bool) -> None:
    """Within it nothing is collected; after it as before, without what it made."""
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        frozen = gc.get_freeze_count()
        with kept_start():
            assert not gc.isenabled()
            made = [[number] for number in range(1000)]
        assert gc.isenabled() == enabled
        assert gc.get_freeze_count() >= frozen + len(made)
    finally:
        gc.unfreeze()
        (gc.enable if before else gc.disable)()
