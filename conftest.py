"""What every test may lean on: shared data, the same numbers each time, no way to the network."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
from pytest_socket import socket_allow_hosts

ROOT = Path(__file__).parent

hypothesis.settings.register_profile(
    "tbot", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("wide", parent=hypothesis.settings.get_profile("tbot"), max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tbot"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data beside the repository, or `TBOT_SHARED`; skips where it is absent."""
    folder = Path(os.environ.get("TBOT_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder}: set TBOT_SHARED to the folder that holds data/")
    return folder


@pytest.fixture
def loopback(socket_enabled: None) -> None:  # noqa: ARG001  -- a fixture wanted for its effect
    """Lets a test reach servers of its own on this machine, and nothing else."""
    socket_allow_hosts(["127.0.0.1", "::1"])
