"""The only ways out of the process: disk, children, environment, randomness, the log, and secrets held in memory."""
