"""What happened to a model: since when, how much, who, what differs, which cause.

In come a window of time and what is bad about it, out goes one report. What was recorded is read once and encoded as small integers
(`table`); `onset`, `slices` and `causes` are statistics of those arrays alone, without a database.
"""
