"""HTTP: everything a browser or a program can ask of a server. Knows no Redis command and reads no settings.

`routes` lists every path. `tasks`, `follow`, `countdown`, `health` and `page` are its endpoints; `bodies`, `inputs`,
`moments` and `cursors` check what comes in; `event_stream` is the response that lasts, `poll` the one that does not,
`links` where JSON goes on; `problems` and `refusals` are the answers when something is wrong or in the way, `leaving`
what a stop adds to each. `openapi` tells programs of all this. `state` is what endpoints find in `request.state`.
"""
