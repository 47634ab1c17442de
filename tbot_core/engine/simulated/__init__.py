"""Paper sessions: requests and live bars for a simulated venue."""
