"""For tests of routes: a client without a network, and sessions that are given."""
