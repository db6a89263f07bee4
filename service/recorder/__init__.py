"""The recorder: in come the journals' frames, out go rows of Postgres, each just once.

`process` runs `drain`, which takes the journals in turn; `session` carries one chunk over: `sorting` decodes it, `chunk_load`
finds what Postgres refuses, `insert` sends it, and the `cursor` moves in the same commit. What cannot be stored goes to
`quarantine` and is counted in `gaps`. `housekeeping` does retention, and `journal_deletion` deletes drained files; `lag`, `stalls`,
`stuck_journals` and `missing_journals` watch the work itself. The bytes of rows are made in `rows/`; erasures are in `erasure/`.
"""
