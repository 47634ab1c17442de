"""What an instance knows of itself, as documents for JSON: status, why, failover, feed, runs, and its events as text.

Each document is built from the journal's projections; every text about it is derived from the document alone.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Document: TypeAlias = "dict[str, Any]"
"""A JSON object: money and quantities as decimal strings, times as ISO 8601 in UTC, None for what is unknown."""
