"""The positions of a session and the orders that belong to them; the same live, in replay and in backtest."""
