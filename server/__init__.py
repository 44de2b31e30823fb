"""Reprise, the server side.

streams   the log and all that must be true of it: ids, cursors, scripts, records, writers, queue. No HTTP.
fanout    one process's live side: doorbell tail, window, hub, the subscription loop. No HTTP either.
web       HTTP: routes, event-stream responses, problem documents, the page at `/`.
app       the composition root: builds the above from `settings` and passes values in.
__main__  the command line, `reprise`.

Imports point from the bottom of this list to its top, never back. This file imports nothing, so that
a worker, which needs only `server.streams`, loads no web framework.
"""
