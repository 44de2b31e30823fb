"""Publishing over HTTP: all events of a request or none, once, and the answer again for whoever repeats it.

Invariant: a refusal that the sender has to mend comes before anything is sent to Redis; where Redis is in the way, the
answer says that nothing is stored, or that this is open and how to find out.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from server.streams.errors import LogRefused, LogUnavailable, NotDurable, NotStored
from server.web.bodies import JSON, apart, check_content_type, read_body
from server.web.idempotency import idempotency_key
from server.web.json_answers import json_response
from server.web.names import changeable_stream
from server.web.open_streams.drafts import drafts_in
from server.web.refusals import Busy

if TYPE_CHECKING:
    from server.web.state import WebRequest

NDJSON: Final = "application/x-ndjson"
#: The same by other names.
_LINES: Final = frozenset({NDJSON, "application/ndjson", "application/jsonl"})
#: Of many small events; it is one call of a script, which holds up everybody else.
_BATCH_BYTES: Final = 1 << 20
#: One event of the largest size has to fit, if JSON escapes each of its bytes (as `\u000a`), with what is around it.
_ESCAPED: Final = 6
_AROUND_BYTES: Final = 4096


async def publish(request: WebRequest) -> Response:
    stream = changeable_stream(request)
    key = idempotency_key(request)
    limits = request.state["limits"]
    media_type = check_content_type(request, JSON, NDJSON, *_LINES)
    most = max(_BATCH_BYTES, _ESCAPED * limits.max_body_bytes + _AROUND_BYTES)
    body = await read_body(request, max_bytes=most, advice="all together. Send fewer events at a time.")
    read = partial(drafts_in, body, is_lines=media_type in _LINES, max_bytes=limits.max_body_bytes)
    drafts = await apart(request, read)
    try:
        ids = await request.state["streams"].publish(stream, drafts, token=key)
    except (LogRefused, NotDurable, NotStored):
        raise  # what became of the events is known
    except LogUnavailable as error:
        raise Busy(_in_doubt(error, has_key=key is not None)) from error
    return json_response({"ids": [str(each) for each in ids]}, status=201)


def _in_doubt(error: LogUnavailable, *, has_key: bool) -> str:
    what = f"takes nothing at the moment ({error.code})" if error.code else "does not answer at the moment"
    if has_key:
        how = "Send the same request again, with the same Idempotency-Key: they are stored once."
    else:
        how = "Sent again, they may be stored twice: send an Idempotency-Key, and repeat it."
    return f"The event log {what}. Whether the events are stored is not known. {how}"
