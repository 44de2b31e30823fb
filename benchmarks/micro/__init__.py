"""What inner parts cost, without sockets between: for comparing two versions on one machine in one sitting.

`internals` is the one module of the benchmarks that imports the product's inner parts; `parts` names what is measured.
"""

from benchmarks.micro.parts import measure_parts

__all__ = ["measure_parts"]
