"""The shared core of servers and workers; it knows no HTTP.

Pure: `ids`, `names`, `event`, `marks` (what compaction needs of an event), `cursor`, `keys`, `records`, `retention`,
`seek` (finding a place in a log), `outbox` (what a writer sends, and sends again), `lease`, `refusing` (what an error
of Redis means), `outage` (what is said of the time without it), `calls` (the scripts of `scripts/` as typed calls).

With Redis: `connections` (the only place that builds clients; over `topology`, which finds Redis), `log` (read,
publish), `open_streams` and `stream_index` (shared streams over HTTP, and their names), `lane` (one connection for many
writers) with `writer` (a task's stream), `shared_writer` (any other) and `enlistment` (its name on the index),
`new_task`, `tasks`, `listing`, `ready` (queues), `registry`, `reaper`, `announcements`, `doorbell` (sharded pub/sub)
with `watches` and `push`.

What every process begins with: `early_stop`, `settings`, `diagnostics`, `suitability`. `safety` says when nothing is as
durable as asked for.
"""
