"""Access to the outside of the process: files, child processes, environment, randomness, log, and secrets in memory."""
