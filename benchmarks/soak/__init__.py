"""`make soak`, or `python -m benchmarks.soak`: minutes of load on a server, a worker and Redis, and whether anything
grows.

load      tasks that emit, readers that come and go.
stack     the programs, and what they are given so that they reach their steady state in a minute.
watched   starts a program of the product and notes how many asyncio tasks it has.
samples   what is measured, every few seconds.
verdict   whether it is flat. Pure.
picture   what it looked like.

Nothing here asserts a time. What grows, leaks or is lost is an exit code above 0.
"""
