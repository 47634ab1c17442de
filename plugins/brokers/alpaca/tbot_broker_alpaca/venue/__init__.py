"""Alpaca on this machine, for tests and rehearsals: a real HTTP and WebSocket server on the rehearsal's market.

It shares no code with the plugin's client: its judges are the vendor's OpenAPI files, saved replies, and alpaca-py.
"""

from tbot_broker_alpaca.venue.exchange import AlpacaExchange, open_venue

__all__ = ["AlpacaExchange", "open_venue"]
