"""Plugins: found by their metadata, tried in child processes, loaded when the configuration enables them."""
