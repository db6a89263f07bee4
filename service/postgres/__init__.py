"""The embedded Postgres: its cluster, its process, its log."""
