"""Hundreds of random faults over one sweep, and nothing may be lost: `python -m tests.soak`.

Two nodes with two fake GPUs each (`ray.cluster_utils.Cluster`), a sweep of fake cells whose scripts raise, run out of
memory and refuse, and from outside, in seeded random order: workers killed (SIGKILL, SIGSEGV), the driver killed or
interrupted, a node lost, a finished record cut in half, a second driver on the same folder. A driver that is gone is
started again with `farm resume`, until every cell has a final status.

Then every cell must have exactly one final status, no finished record may be lost or measured twice, no worker may be
left, no GPU held. Told are these figures, the faults by kind, and how long after each the next point came in.
"""
