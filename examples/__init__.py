"""The scripts that made the shipped models, and the data they were made from."""
