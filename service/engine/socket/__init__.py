"""The engine behind a Unix socket: frames, and both ends of it."""
