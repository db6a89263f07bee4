"""Journal records as rows of the tables, and as Postgres' binary COPY takes them."""
