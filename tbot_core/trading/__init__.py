"""Pure decisions: from signals to orders, risk limits, positions and exits."""
