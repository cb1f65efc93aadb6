"""Turbo-Inferencia: how much faster can this model run on my GPUs, and what does it cost in quality?

The core package is pure (no torch, no ray): a sweep becomes cells, cells become load groups, measurements become
records, and records become rows. `jobs` measures, `cluster` schedules, `farm.present` draws.
"""

__version__ = "0.1.0"
