"""HTTP: everything a browser or a program can ask of a server. Knows no Redis command and reads no settings.

`routes` lists every path. `tasks`, `dead_letters`, `open_streams`, `follow`, `countdown`, `health`, `metrics` and
`page` are its endpoints; `names`, `cursors`, `paging`, `idempotency`, `bodies`, `json_text`, `new_task`, `inputs` and
`moments` check what comes in, and `requests` says who asks; `event_stream` is the response that lasts, `poll` the one
that does not, `json_answers` any other; `problems` and `refusals` are the answers when something is wrong or in the
way, `leaving` and `origins` what every answer has besides. `openapi` tells programs of all this. `state` is what
endpoints find in `request.state`; `readiness` says whether requests should come here, `usable` whether they may write.
"""
