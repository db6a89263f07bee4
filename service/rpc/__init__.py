"""JSON-RPC without HTTP: envelope, dispatch, methods, the arrays codec and the OpenRPC document."""
