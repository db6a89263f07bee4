"""From executed batches to journal records: what is kept of them, and how often."""
