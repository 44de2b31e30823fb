"""What inner parts cost, without sockets between: for comparing two versions on one machine in one sitting.

`internals`, `seeking` and `durability` are the modules of the benchmarks that import the product's inner parts; `parts`
names what is measured.
"""

from benchmarks.micro.durability import measure_durability
from benchmarks.micro.parts import measure_parts

__all__ = ["measure_durability", "measure_parts"]
