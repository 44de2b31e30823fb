"""The whole run: what is started, in which order it stops, and what the person sees.

Invariant: the run ends only when a person asks for it or a process refuses what it was given, and then nothing is
left. The supervisor listens itself and hands the socket down: while a killed server is restarted, readers
that come back wait in the backlog instead of being refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from server.dev import valkey
from server.dev.child import Child, ChildRefused, Program
from server.dev.folder import FOLDER, Place, kept_place, passing_place
from server.dev.output import Output
from server.dev.ready import wait_until_offered, wait_until_ready
from server.listening import address_of, listen
from server.settings import ServerSettings

#: On one machine nobody else can take the readers over, so that a long farewell helps nobody.
_DRAIN_SECONDS: Final = 2.0
#: What a process may need beyond its drain to leave: a worker hands back for 4 s, signs off for 2, abandons for 1.
_LEAVE_SECONDS: Final = 8.0
#: Writing out a full append-only file takes seconds.
_VALKEY_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What the command line asked for."""

    workers: int
    task_modules: tuple[str, ...]
    is_ephemeral: bool


def run_dev(settings: ServerSettings, options: DevOptions) -> int:
    """Run everything until told to stop; returns the exit code. Raises `CannotStart` with the reason."""
    with _place(settings, options) as place, contextlib.ExitStack() as opened:
        listeners = [opened.enter_context(each) for each in listen(settings.host, settings.port)]
        program = valkey.find_program() if place else None
        plan = Plan(settings, options, place, listeners, program)
        return asyncio.run(Supervisor(plan).run())


@contextlib.contextmanager
def _place(settings: ServerSettings, options: DevOptions) -> Generator[Place | None]:
    """Where the embedded server goes; None if the settings name a Redis."""
    if "redis_url" in settings.model_fields_set:
        yield None
        return
    with passing_place() if options.is_ephemeral else kept_place(Path.cwd()) as place:
        yield place


@dataclass(frozen=True, slots=True)
class Plan:
    """What runs, as programs."""

    settings: ServerSettings
    options: DevOptions
    place: Place | None
    listeners: list[socket.socket]
    valkey_program: str | None

    @property
    def url(self) -> str:
        return address_of(self.listeners[0])

    @property
    def redis_url(self) -> str:
        return self.place.url if self.place else self.settings.redis_url.get_secret_value()

    def valkey(self) -> list[Program]:
        if self.place is None or self.valkey_program is None:
            return []
        command = valkey.command_line(self.valkey_program, self.place)
        return [Program("valkey", command, os.environ, stop_seconds=_VALKEY_SECONDS, unshown=valkey.UNSHOWN)]

    def server(self, environment: dict[str, str]) -> list[Program]:
        numbers = tuple(each.fileno() for each in self.listeners)
        port = self.listeners[0].getsockname()[1]
        command = [sys.executable, "-m", "server", f"--host={self.settings.host}", f"--port={port}"]
        command += [f"--listen-fd={number}" for number in numbers]
        return [Program("server", command, environment, stop_seconds=self._stop_seconds, inherited=numbers)]

    def workers(self, environment: dict[str, str]) -> list[Program]:
        command = [
            sys.executable,
            "-m",
            "workers",
            *(f"--tasks={each}" for each in self.options.task_modules),
        ]
        count = self.options.workers
        names = ["worker"] if count == 1 else [f"worker-{number}" for number in range(1, count + 1)]
        return [Program(name, command, environment, stop_seconds=self._stop_seconds) for name in names]

    def environment(self, *, colours: bool) -> dict[str, str]:
        """What servers and workers see: what a person has set stays as it is."""
        ours = {"PYTHONUNBUFFERED": "1", "REPRISE_REDIS_URL": self.redis_url}
        if "log_format" not in self.settings.model_fields_set:
            ours["REPRISE_LOG_FORMAT"] = "console"
        if "drain_seconds" not in self.settings.model_fields_set:
            ours["REPRISE_DRAIN_SECONDS"] = str(_DRAIN_SECONDS)
        if colours:
            ours["FORCE_COLOR"] = "1"
        return os.environ | ours

    @property
    def _stop_seconds(self) -> float:
        is_ours = "drain_seconds" not in self.settings.model_fields_set
        return (_DRAIN_SECONDS if is_ours else self.settings.drain_seconds) + _LEAVE_SECONDS


class Supervisor:
    """Starts the plan, keeps it running, stops it in order."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._output = Output(width=8 if plan.options.workers < 2 else 9)
        self._stop = asyncio.Event()
        self._exit_code = 0
        #: In the order of their start; each ends before the one below it.
        self._stages: list[dict[Child, asyncio.Task[None]]] = []

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(each, self._asked_to_stop)
        if (place := self._plan.place) and (pid := await valkey.stop_leftover(place)):
            self._say(f"stopped the valkey of an earlier run (pid {pid})")
        async with asyncio.TaskGroup() as group:
            try:
                await self._start(group)
                await self._stop.wait()
            finally:
                await self._stop_in_order()
        self._say("all stopped")
        return self._exit_code

    async def _start(self, group: asyncio.TaskGroup) -> None:
        plan = self._plan
        self._launch(group, plan.valkey())
        if plan.place:
            await self._unless_stopped(valkey.wait_until_up(plan.redis_url))
        if self._stop.is_set():
            return
        environment = plan.environment(colours=self._output.has_colours)
        self._launch(group, plan.server(environment))
        self._launch(group, plan.workers(environment))
        await self._unless_stopped(wait_until_ready(plan.url, self._say))
        if plan.options.workers:
            await self._unless_stopped(wait_until_offered(plan.url))
        if not self._stop.is_set():
            self._show_banner()

    def _launch(self, group: asyncio.TaskGroup, programs: list[Program]) -> None:
        children = [Child(program, self._output) for program in programs]
        self._stages.append({each: group.create_task(self._keep(each), name=each.program.name) for each in children})

    async def _keep(self, child: Child) -> None:
        try:
            await child.run()
        except ChildRefused as refused:
            self._say(f"{refused} cannot start with these settings or modules (see above); stopping")
            self._exit_code = 2
            self._stop.set()

    async def _unless_stopped(self, waited_for: Awaitable[None]) -> None:
        waiting = asyncio.ensure_future(waited_for)
        stopping = asyncio.create_task(self._stop.wait(), name="wait for the wish to stop")
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                waiting.result()
        finally:
            waiting.cancel()
            stopping.cancel()

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            for stage in self._stages:
                for child in stage:
                    child.stop(at_once=True)
            return
        self._say("stopping; Ctrl-C again stops at once")
        self._stop.set()

    async def _stop_in_order(self) -> None:
        for listener in self._plan.listeners:
            listener.close()
        for stage in reversed(self._stages):
            for child in stage:
                child.stop()
            if stage:
                await asyncio.wait(stage.values())

    def _say(self, text: str) -> None:
        self._output.line("reprise", text)

    def _show_banner(self) -> None:
        plan = self._plan
        kept = "" if not plan.place else f"  (kept in {FOLDER}/)" if plan.place.is_kept else "  (nothing is kept)"
        bold, end = ("\x1b[1m", "\x1b[0m") if self._output.has_colours else ("", "")
        self._output.plain(
            f"\n  {bold}Reprise is ready{end}\n\n"
            f"  page   {bold}{plan.url}/{end}\n"
            f"  Redis  {without_password(plan.redis_url)}{kept}\n"
            f"  stop   Ctrl-C\n"
        )


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}").geturl()
