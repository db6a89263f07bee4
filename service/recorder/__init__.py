"""The recorder: in come the journals' frames, out go rows of Postgres, each just once.

`process` runs `drain`, which takes the journals in turn; `session` carries one chunk over: `sorting` decodes it, `load` finds what
Postgres refuses, `insert` sends it, and the `cursor` moves in the same commit. What cannot be stored goes to `quarantine` and is
counted in `gaps`. `housekeeping` does retention and `tidy` deletes drained files; `lag`, `stalls`, `doubts` and `gone` watch the
work itself. The bytes of rows are made in `rows/`; erasures are in `erasure/`.
"""
