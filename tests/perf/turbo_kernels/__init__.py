"""The decode kernels on a GPU, against its memory bandwidth: `python -m tests.perf.turbo_kernels --out DIR`."""
