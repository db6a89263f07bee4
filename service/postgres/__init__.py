"""The embedded Postgres: in comes a data directory, out comes a running server and the URL that reaches it.

`cluster` makes its files and says how a server is run on them; `process` runs it, with `log` for what it says and `leftovers` for what
an earlier start left running; `passwords` and `endpoint` say how it is reached. Nothing here imports a database driver.
"""
