"""One lane, and so one connection, for all streams of one Redis that an event loop has open with the same durability.

Invariant: a lane is closed with the last handle that took it, and no lane is used over a fork: two processes would
write on one socket.
"""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import dataclass
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

from server.streams.connections import AsyncClient, connect
from server.streams.durability import Durability
from server.streams.lane import Lane
from server.streams.lanes import Lanes, open_lane
from workers.publishing.options import DurabilityName

_CLIENT_NAME: Final = "reprise-stream"
#: Process, address of Redis, durability: a lane ends each trip with one and the same wait.
_Address: TypeAlias = tuple[int, str, Durability]


@dataclass(slots=True)
class SharedLane:
    """A lane and how many hold it."""

    lane: Lane | Lanes
    client: AsyncClient
    address: _Address
    holders: int = 0


class _Lanes(threading.local):
    """Those of this thread's event loops, by process and address: a loop never leaves its thread."""

    def __init__(self) -> None:
        self.of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Address, SharedLane]] = WeakKeyDictionary()


_lanes: Final = _Lanes()


def take_lane(redis_url: str, durability: DurabilityName) -> SharedLane:
    """The lane of the running loop to that Redis. Nothing is dialled before something is to be sent."""
    mine = _lanes.of_loop.setdefault(asyncio.get_running_loop(), {})
    address = (os.getpid(), redis_url, Durability(durability))
    found = mine.get(address)
    if found is None:
        client = connect(redis_url, name=_CLIENT_NAME)
        found = mine[address] = SharedLane(open_lane(client, durability=address[2]), client, address)
    found.holders += 1
    return found


async def give_back(shared: SharedLane) -> None:
    """The same loop needs it no more."""
    shared.holders -= 1
    if shared.holders == 0:
        del _lanes.of_loop[asyncio.get_running_loop()][shared.address]
        await shared.lane.aclose()
        await shared.client.aclose()
