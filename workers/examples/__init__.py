"""The demo tasks: what a worker offers that was given no modules of its own."""

from workers.examples.demo import chat, countdown, flaky, process, thinking

__all__ = ["chat", "countdown", "flaky", "process", "thinking"]
