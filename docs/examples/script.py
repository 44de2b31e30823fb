"""Write a stream from a script.

python script.py redis://127.0.0.1:6379/0 build.7
"""

import sys

from workers import open_stream_sync

redis_url, name = sys.argv[1:]
steps = ["fetch", "compile", "test", "pack"]

with open_stream_sync(redis_url, name) as stream:
    for number, step in enumerate(steps, 1):
        stream.progress(number, len(steps), step)
        stream.log(f"{step} is done")
    stream.complete({"steps": len(steps)})
