"""Stored bars and the facts of a day: Parquet files by month and symbol, read in blocks of a month.

`store` serves blocks, `selection` says which a run gets, `facts` computes what is known before the bell, `layout` knows
files and manifests, `importing` takes sources in, `listing` says what is there, `verifying` proves it.
"""
