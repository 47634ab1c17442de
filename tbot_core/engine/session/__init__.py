"""One session in any clock: what live, paper, replay and backtest share."""
