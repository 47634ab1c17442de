"""How results read on a terminal: tables, banners, summaries and the live view."""
