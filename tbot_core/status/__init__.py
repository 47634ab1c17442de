"""Read models of an instance, for the command line and the web."""
