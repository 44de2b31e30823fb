"""Five demo tasks, one for each thing a task can show: ticks, progress, thoughts, tokens, and a failure.

They are written as a user's own would be: everything comes from `workers`, and the pauses stand for real work.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from pydantic import Field

from workers import Context, TaskError, task

#: Reading speed: a reply of a few hundred words takes about ten seconds.
_TOKEN_SECONDS: Final = 0.03
_STEPS: Final = ("Collecting the input", "Checking it", "Computing", "Writing the report", "Cleaning up")


@task("countdown")
async def countdown(ctx: Context, seconds: Annotated[int, Field(ge=1, le=60)] = 10) -> dict[str, Any]:
    """Count down the seconds: one `tick` each, from `seconds` to 1, and `complete` a second after the last."""
    for remaining in range(seconds, 0, -1):
        await ctx.emit("tick", {"remaining": remaining})
        await asyncio.sleep(1)
    return {"seconds": seconds}


@task("process")
async def process(ctx: Context) -> dict[str, Any]:
    """Work through five named steps and report progress after each, for about five seconds."""
    for step, name in enumerate(_STEPS):
        await ctx.progress(step, len(_STEPS), name)
        await asyncio.sleep(1)
    await ctx.progress(len(_STEPS), len(_STEPS), "Done")
    return {"steps": len(_STEPS)}


@task("thinking")
async def thinking(
    ctx: Context,
    question: Annotated[str, Field(min_length=1, max_length=500)] = "How does a stream survive a restart?",
) -> dict[str, Any]:
    """Think aloud like an agent: a few thoughts, then a conclusion, in about five seconds."""
    thoughts = _thoughts_about(question)
    for text in thoughts:
        await ctx.thought(text)
        await asyncio.sleep(5 / len(thoughts))
    conclusion = f"So the answer to {question!r} is: keep every event under an id, and let readers say where they were."
    await ctx.emit("conclusion", {"text": conclusion})
    return {"thoughts": len(thoughts)}


@task("chat")
async def chat(
    ctx: Context,
    prompt: Annotated[str, Field(min_length=1, max_length=2000)] = "Explain resumable streams.",
) -> dict[str, Any]:
    """Answer a prompt as a language model would: a few hundred words, token by token. The reply is canned."""
    tokens = _reply_to(prompt).split(" ")
    for index, word in enumerate(tokens):
        await ctx.token(word if index == 0 else f" {word}")
        await asyncio.sleep(_TOKEN_SECONDS)
    return {"tokens": len(tokens)}


@task("flaky")
async def flaky(ctx: Context, fail_at: Annotated[int, Field(ge=1, le=5)] = 3) -> dict[str, Any]:
    """Work through five steps and fail at a given one: the stream ends with an `error` event, not a broken line."""
    for step in range(1, 6):
        await ctx.progress(step, 5, f"Step {step}")
        await asyncio.sleep(0.5)
        if step == fail_at:
            raise TaskError(f"Step {step} failed, as you asked.")
    return {}


def _thoughts_about(question: str) -> list[str]:
    """Three to five thoughts, the same each time for the same question."""
    every = [
        f"I am asked: {question}",
        "A reader can vanish at any moment, and so can whoever serves it.",
        "What was sent must therefore be written down first, in order, where any server can read it.",
        "If each event has an id, a reader that comes back only has to name the last one it saw.",
        "Numbers without holes would even prove that nothing is missing.",
    ]
    return every[: 3 + len(question) % 3]


def _reply_to(prompt: str) -> str:
    about = " ".join(prompt.split())[:120].rstrip(".!")
    return (
        f'You asked: "{about}". Here is an answer that arrives one token at a time, so that you can try to lose some. '
        "Every word you read was appended to a log in Redis before it was sent to you, and it carries an id. "
        "Your browser remembers the id of the last word it received. Close the laptop, walk into a tunnel, restart the "
        "server, or kill it without warning: when the connection comes back, the browser says where it was, and "
        "whichever server answers goes on with the very next word. "
        "The worker that writes this text knows nothing of you. It holds a lease on its task and renews it while it "
        "writes. Should it die, another worker finds the lease expired, opens a new attempt, and you are told in so "
        "many words that the text before is void, so that two halves of two answers never end up in one sentence. "
        "Should the first worker wake up after all, its words are refused, because the log has moved on without it. "
        "The numbers inside a generation have no holes. That sounds like a detail, and it is the whole trick: a reader "
        "that has seen forty-one and is handed forty-three does not have to wonder whether forty-two was important. "
        "It goes back to the log and looks. If the log has it, you never notice. If the log has lost it, you are told "
        "exactly what is missing, which is the one thing that a stream must never keep to itself. "
        "A slow reader costs nobody but itself, since nothing is kept for it but the place where it stands. A thousand "
        "readers of the same words share one copy of them. And when the last word is written, the stream says so, the "
        "connection is closed for good, and nobody polls anything any more. "
        "That is all there is to it. Now reload this page in the middle of a sentence and see what happens."
    )
