"""One process's live side: from the log and its doorbell to frames for each subscriber. Knows no HTTP.

Pure: `frames` (bytes of an event stream), `framed` (the same for many: filtered, with ids of their own), `bell` (what a
ring says), `standing` (which events of a task stand), `continuity` (what a reader may conclude), `compaction` (fewer
events that say the same), `window` (recent frames). Asyncio: `tail` (one watched stream), `looks` (its log, read for
several at once), `history` (pages for those who do not follow), `start` (where a subscriber begins), `past` (what was
there then, compacted), `strand` (one stream as one subscriber follows it), `subscription` (a subscriber, as far as it
gets without waiting), `outlet` (where its blocks go), `delivery` (serving those who rest), `clock` (heartbeats, ages),
`life` (whether the writers of watched tasks live), `following` (telling Redis that readers came or went), `farewell`
(sending readers away bit by bit), `hub` (the map of them, the sweep, outages).
"""

from server.fanout.hub import Hub, HubOptions
from server.fanout.start import Manner, Start
from server.fanout.subscription import Subscription

__all__ = ["Hub", "HubOptions", "Manner", "Start", "Subscription"]
