"""The HTTP face: listeners, JSON-RPC over HTTP and WebSocket, health, metrics, admin."""
