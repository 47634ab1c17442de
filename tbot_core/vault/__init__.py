"""Secrets on disk: keys, encrypted files, and the one way to their content (`tbot_core.vault.vault`)."""
