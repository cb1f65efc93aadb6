"""Programmatic dependent launch: the next kernel may start while this one ends, and waits here for its results.

order_kernels(PDL)      # first line of a kernel that loads nothing ahead
"""

# mypy: disable-error-code="no-untyped-def"
# Triton reads these functions as text; their types are the device's.

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def order_kernels(PDL: tl.constexpr):
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
