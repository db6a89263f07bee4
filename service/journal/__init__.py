"""Append-only segments on disk: what was answered, before it is answered."""
