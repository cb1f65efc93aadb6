"""Scheduling: which group runs where, what happens when a process dies, who writes the records.

Importing this package settles how Ray authenticates, because Ray reads that when it is imported itself. Unasked, Ray
would write a token file into the home folder, after which a `ray job submit` to another cluster fails with 401; so a
Ray that the farm starts gets a token in memory. Ray also runs its workers at niceness 15 by default: on a busy host
that slows the host side of what is measured, and eager decoding *is* its host side. Whatever the environment already
says is left alone.
"""

import os
import secrets
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_AUTH_MODE", "token")

_has_token = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path("~/.ray/auth_token").expanduser().is_file()
if os.environ["RAY_AUTH_MODE"] == "token" and not _has_token:
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
