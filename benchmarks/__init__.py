"""Measurements of a really running service; `make bench` runs them."""
