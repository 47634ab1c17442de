"""Stored bars and daily facts: Parquet files by month and symbol, read in blocks of a month."""
