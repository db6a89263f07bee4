"""JSON-RPC without HTTP.

In: the bytes of a message (`dispatch`), split into calls (`envelope`); each is checked against its method's params (`binder`) and
carried out (`running`, and `methods/`, a file each). Out: the bytes of the answer, with errors that point at what is wrong, and
the OpenRPC document of all this.
"""
