"""Reprise, the worker side: runs task functions and writes what they emit.

examples  the demo tasks.

Imports only `server.streams`; the server never imports this package, it meets workers in Redis.
"""
