"""A finished run: its summary, its timeline and its HTML report."""
