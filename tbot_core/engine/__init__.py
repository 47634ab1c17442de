"""Runs sessions minute by minute: live, paper, replay and backtest differ only in clock and venue."""
