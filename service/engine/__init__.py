"""The engine: versions in memory, batching, execution. Nothing here needs a framework; its backend does.

In come predict calls, admin calls, and what lies in the models directory. Out go answers, each batch as a record before
any of its answers, and a catalog of what can be called. `engine` is its life, `scheduler` decides which call runs when,
`runner` runs and records, `answers` tells the callers; `models/` keeps what is in memory in step with the disk.
"""
