"""JSON and Arrow to columns, and predictions back: no transport, no engine."""
