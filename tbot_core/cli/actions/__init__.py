"""What the commands do: functions that take plain arguments and return values; some prompt a person."""
