"""Sessions at a broker's own market: day after day, with a live feed, failover and shutdown."""
