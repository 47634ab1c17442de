"""Plugins: discovered from metadata, probed in child processes, loaded when enabled."""
