"""What is kept of versions in the transaction that moves a journal's cursor: so each batch counts once, whatever breaks.

In come the batches and other records of a chunk, out go rows of the watchers' own tables, and what the metrics and the log are
told once the chunk is committed. A new watcher is a file with a class of `watcher.Watcher`, and a line in `watchers.ALL`.
"""
