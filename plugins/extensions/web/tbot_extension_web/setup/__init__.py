"""The set-up of an instance on the page: its steps, and the fields of each."""
