"""Incidents planted in a day of traffic, and who finds their cause.

`served` runs the shipped models, `traffic` makes a day, `planted` has the twelve kinds of incident, `tables` encodes a day as a
postmortem reads it, `rivals` are other ways to rank what differs.
"""
