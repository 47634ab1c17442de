"""The state of an instance as JSON documents: status, why, failover, feed, runs, and its events as text.

Documents are built from the journal's projections; texts are built from the documents alone.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Document: TypeAlias = "dict[str, Any]"
"""A JSON object: money and quantities as decimal strings, times as ISO 8601 in UTC, None for unknown values."""
