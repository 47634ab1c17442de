"""The handlers of the page, a module for each of its pages."""
