"""Rules of the bot broken on purpose, one at a time: the rehearsal must notice each."""
