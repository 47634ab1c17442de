"""The words of trading as values: orders, fills, bars, signals, sessions, clocks and reasons."""
