"""Which versions are in memory and what they are for: follows the disk, loads, swaps, takes a person's orders.

All state changes happen on the event loop, in steps that await nothing: a load that takes minutes is a job beside
them, so that a route, a policy or an unload never waits for it. In come looks at the disk, ends of loads and admin
calls; out goes the catalog.
"""
