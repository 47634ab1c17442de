"""Trades stored sessions at once: one scan for many sessions, then only the minutes in which something happens."""
