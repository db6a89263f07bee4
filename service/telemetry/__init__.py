"""Logs and metrics: hooks that the other folders call, with no knowledge of them.

In: events, counts, and what a process says of recording. Out: lines on stderr, Prometheus' text, and small files in the runtime
directory through which processes know of each other.
"""
