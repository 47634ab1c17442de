"""What the commands do: plain functions that take arguments, return values and print nothing."""
