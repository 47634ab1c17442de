"""tbot: a small core that loads a configuration, finds plugins and walks one bar to one decision."""
