"""Measurements of Reprise and its rivals. `make bench` runs them and writes docs/benchmarks.md.

`scenarios/` says what is measured, `peers/` whom, `load/` with what load, `measure` from which accounts; `runner` runs
them, `results` and `report/` make tables of what was found. `tasks` and `gate` are the product's writers. `micro`
measures inner parts without sockets. Nothing in the product imports any of this.
"""
