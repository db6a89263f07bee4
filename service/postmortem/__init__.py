"""What happened to a model, from what was recorded: since when, who, what differs, which cause; and what another version says.

In come a model, a time and conditions (`window`), and Postgres through one connection that only reads (`reading`). What was recorded is
read once: as small integers (`table`), of which `onset`, `slices` and `causes` are statistics without a database, or as a
model's inputs again (`recorded`). Out go one report, files, and comparisons of versions.
"""
