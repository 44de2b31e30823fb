"""One process's live side: from the log and its doorbell to frames for each subscriber. Knows no HTTP.

Pure: `frames` (bytes of an event stream), `bell` (what a ring says), `standing` (which events of a task stand),
`continuity` (what a reader may conclude), `window` (recent frames). Asyncio: `tail` (one watched stream),
`subscription` (the one loop of a subscriber), `hub` (the map of them, and the sweep).
"""

from server.fanout.hub import Hub, HubOptions
from server.fanout.subscription import Start, Subscription

__all__ = ["Hub", "HubOptions", "Start", "Subscription"]
