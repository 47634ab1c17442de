"""Trading values: orders, fills, bars, signals, sessions, clocks and reasons."""
