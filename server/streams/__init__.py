"""The shared core of servers and workers; it knows no HTTP.

Pure: `ids`, `names`, `event`, `cursor`, `keys`, `records`, `outbox` (what a writer sends, and sends again), `lease`,
`calls` (the scripts of `scripts/` as typed calls). With Redis: `connections` (the only place that builds clients; over
`topology`, which finds Redis), `log` (read, publish), `writer` (a task's stream), `new_task`, `tasks`, `listing`,
`ready` (queues), `registry`, `reaper`, `announcements`, `doorbell` (sharded pub/sub) with `watches` and `push`.
"""
