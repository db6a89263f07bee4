"""Calls a service from Python: NumPy arrays and plain values in, typed predictions out.

A call is one generator (`core`), which says what to send and how long to pause; how that is done is the transports' alone:
HTTP (`sync`, `aio`), one WebSocket (`socket`), an engine in this process (`in_process`). So that each decision (what goes as a
tensor, which error is worth another try, when to give up) stands once for all of them.
"""
