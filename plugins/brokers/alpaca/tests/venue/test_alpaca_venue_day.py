"""The plugin trades simulated days at the venue, and the venue says what it saw."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from tbot_core.cli.commands.rehearse import command


@pytest.mark.slow
@pytest.mark.measured
@pytest.mark.usefixtures("loopback")
def test_a_day_with_faults_and_a_restart_violates_nothing() -> None:
    """Orders fill, the venue and the journal agree, and less than half of the rate limit is used."""
    done = CliRunner().invoke(command, ["--broker", "alpaca", "--seeds", "1", "--first-seed", "5"])
    assert done.exit_code == 0, done.output
    assert re.match(r"1 session, \d+ orders, [1-9]\d* fills, 1 crash and restart\n", done.stdout)
    assert "The venue of seed 5:\n" in done.stdout
    assert re.search(r"\n\d+ requests; \d+ orders: .*\d+ filled\n", done.stdout)
    most = [int(text) for text in re.findall(r": at most (\d+) of 200 requests in one minute", done.stdout)]
    assert len(most) == 2
    assert max(most) < 100
    assert done.stdout.endswith("0 violations\n")
