"""The deterministic simulator: virtual time, venues, networks and prices, all from one seed."""
