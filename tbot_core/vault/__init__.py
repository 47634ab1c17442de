"""Secrets on disk: keys, encrypted files, and the only access to their content (`tbot_core.vault.vault`)."""
