"""Frameworks that run graphs, a folder each; `executor` is what the engine asks of one."""
