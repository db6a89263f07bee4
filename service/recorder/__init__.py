"""From the journals to Postgres: exactly once, whatever dies."""
