"""The contenders: Reprise, Nchan with Redis, and the design that tutorials show. Each starts, is written to, and stops.

`peer` is what a scenario sees of them; `reprise`, `nchan` and `tutorial` are the three; `redis` and `processes` are
what they share. Invariant: one server process each, a Redis of its own with the same options, the same placement on
processors, and nothing left running afterwards.
"""
