"""The engine behind a Unix socket, so that the api's processes need no framework and survive its death.

In: calls of an api process (`client`), as frames with the columns' bytes (`wire`). Out, at the other end (`server`): the same calls
to the engine there, and its answers and catalogs back.
"""
