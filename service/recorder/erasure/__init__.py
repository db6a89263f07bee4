"""Erasing: what is there now, and what is still on its way."""
