"""Offline scoring: a file of rows through the engine in this process, into a file of predictions."""
