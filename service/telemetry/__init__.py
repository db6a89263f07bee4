"""Logs and metrics: hooks that the other folders call, with no knowledge of them."""
