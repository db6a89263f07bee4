"""Offline scoring: files of rows through an engine in this process.

In: a file of rows (`sources`: Parquet, CSV, jsonl), read in chunks from any position reached before. Out: the same rows with
a prediction or an error each, written part by part (`parts`) beside a checkpoint (`workspace`), so that a killed run goes on.
"""
