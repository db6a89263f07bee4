"""Frameworks that run models, a folder each.

In: a version's directory and manifest. Out: a `Graph`, whose executors take arrays and give arrays. `backend.py` says what a
folder has to offer and finds the one that a version needs; nothing outside this folder knows a framework by name.
"""
