"""Records as rows: in come decoded journal records, out go the bytes of Postgres' binary COPY, or arguments of SQL.

`layout` says which column a value goes to; `group` joins batches that are alike; `tables` makes Arrow of them, with `arrays`, `text`
and `tensors` for the columns that Arrow has no type for; `encode` makes a COPY of that. `plain` is for records that are few.
"""
