"""What is written down, and what it adds up to: the one table of events, its records, and what is read from them."""
