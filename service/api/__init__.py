"""HTTP and WebSocket around `rpc`, in a process of its own.

In: connections (`listener`), whose requests are read within limits of size, time and memory (`connection`, `body`,
`arriving_messages`); large ones are decoded by a process beside this one (`decoder`). Out: the answers of `rpc` (`replies`),
health and metrics (`health`), and a journal of refusals and labels (`journal`). `app` opens and closes all of it in order.
"""
