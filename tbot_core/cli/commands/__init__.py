"""The commands of `tbot`: each module declares one click command, imported only when it is called."""
