"""A whole decode step of one sequence as one kernel that stays on the device until the token is chosen.

The physics: a step of Llama-3-8B reads 15.3, 7.8 or 4.4 GB in 16, 8 or 4 bit, 5.0, 2.6 or 1.4 ms at 3.03 TB/s. As 200
kernels it pauses its reading 200 times, until the next kernel's first bytes arrive: about 1.5 ms in all, more than a
4-bit step should take. Here one warp of each multiprocessor asks for all bytes of the step, in order, as far ahead as
shared memory holds them, and never stops for what the other warps wait for.

    step = PersistentStep(build, weights, rows, state, cache, kernel)
    step.run()                      # state.token is the next token

Where to look: `step.cu` is the kernel's table of contents, `ring.cuh` the stream of memory, `products.cuh` the
arithmetic, `attention.cuh` attention, `layout.cuh` sizes and memory; `build.py` says which models it can serve,
`compiler.py` compiles it for one of them. On a CPU the same source runs on fibers (`tests/emulation`).
"""

from jobs.turbo.persistent.build import Build, build_for, why_not
from jobs.turbo.persistent.step import PersistentStep

__all__ = ["Build", "PersistentStep", "build_for", "why_not"]
