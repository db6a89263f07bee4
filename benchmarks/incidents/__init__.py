"""Incidents planted in a day of traffic, and who finds their cause.

`served` runs the shipped models, `traffic` makes a day, `planted` has the twelve kinds of incident, `recorded` carries a day through the
real recorder into Postgres and asks about it, `rivals` are other ways to rank what differs, `figures` are the tables.
"""
