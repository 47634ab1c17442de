"""The network as plugins reach it: declared hosts, request limits, HTTP and WebSocket clients."""
