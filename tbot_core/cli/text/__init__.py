"""Results as text on a terminal: tables, banners, summaries and the live view."""
