"""Backtests stored sessions: one scan for many sessions, then only the minutes with orders or signals."""
