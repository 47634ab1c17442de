"""Everything secret on the disk: keys, encrypted files, and the one way to what they hold (`tbot_core.vault.vault`)."""
