"""Write a stream from a Celery task.

celery --app celery_app worker
"""

import os
import time

from celery import Celery

from workers import open_stream_sync

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
app = Celery("celery_app", broker=os.environ.get("BROKER_URL", REDIS_URL))


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def reply(self, name, prompt):
    with open_stream_sync(REDIS_URL, name) as stream:
        # Celery runs a task again whose worker died. What the dead run wrote stays: this tells readers to forget it.
        stream.emit("begin", {"task": self.request.id, "is_again": self.request.delivery_info["redelivered"]})
        for word in prompt.split():
            time.sleep(0.02)
            stream.token(word + " ")
        stream.complete()
