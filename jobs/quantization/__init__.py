"""Weight precisions: each backend loads a model with its linear layers in one of the catalog's precisions.

Why a package that finds its own modules: decoding reads every weight once a token, so the bytes a weight takes are the
first lever on speed, and people will want to add theirs. A new backend is one file here that ends in
`BACKEND = MyBackend()`; nothing else changes.

    why_not("int8", "cpu")          # None: it can run here
"""

from jobs.quantization.base import Backend, backend_for, backends, usable_backend, why_not

__all__ = ["Backend", "backend_for", "backends", "usable_backend", "why_not"]
