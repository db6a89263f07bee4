"""Append-only segments on disk: what was answered, before it is answered.

In: encoded records, from an engine or api process, one write for what is answered together (`writer`, `group_commit`).
Out: the same records in order, each once, and what is missing between them, for the recorder (`finding`, `reader`).
"""
