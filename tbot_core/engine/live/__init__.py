"""Sessions at a live market, day after day: live feed, failover and shutdown."""
