"""Plugins: found by metadata, probed in child processes, loaded when the settings enable them."""
