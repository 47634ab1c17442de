"""Limits: the risk gate, sizing, exposure, account rules and risk states."""
