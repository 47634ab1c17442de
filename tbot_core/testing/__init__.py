"""For the authors of plugins: what their tests need."""
