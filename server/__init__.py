"""Reprise, the server side.

streams       the log and all that must be true of it: ids, cursors, scripts, records, writers, queue. No HTTP.
fanout        one process's live side: doorbell tail, window, hub, subscriptions. No HTTP either.
web           HTTP: routes, event-stream responses, problem documents, the page at `/`.
settings      what the environment says, read once at an entry point.
listening     the listening socket.
open_files    how many files the process may open, and a sentence where they run out.
connection    uvicorn's connection, which an event stream takes over.
redis_checks  what a server finds out about its Redis, before it is used and while it is.
app           the composition root: builds the above and passes values in.
serving       uvicorn as Reprise runs it: our socket, our drain.
dev           `reprise dev`: Redis, server and workers as processes of one run.
cli           the commands; `__main__` starts them.

Imports point from the bottom of this list to its top, never back. This file imports nothing, so that
a worker, which needs only `server.streams`, loads no web framework.
"""
