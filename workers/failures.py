"""The error a task function raises to say that the task has failed, where nothing is wrong with its code."""

from __future__ import annotations


class TaskError(Exception):
    """Ends the task as failed: the text goes to its readers as it stands, and no traceback to the worker's log."""
