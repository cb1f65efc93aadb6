"""Secrets out of texts: everything that is kept or shown goes through here once, whatever library wrote the message.

Why values and shapes: an exception may quote a header, and with it a token that nothing in the text marks as one; the
value in this process's environment is known. A token out of a file is known by its shape only.

    >>> redacted("401 for Bearer abcdefgh123", {})
    '401 for ***'
"""

import json
import os
import re
from collections.abc import Mapping

HIDDEN = "***"
_SHORTEST = 8  # a shorter "secret" (`HF_TOKEN=1`) is more likely a word of the text itself
_NAME = re.compile(r"(?:^|_)(?:TOKENS?|SECRETS?|PASSWORDS?|PASSWD|CREDENTIALS?|API_?KEY|ACCESS_KEY|PRIVATE_KEY)(?:_|$)")
_NOT_SECRET = re.compile(
    r"_(?:PATH|FILE|ID)$"
)  # AWS's key id and the path of a token file are needed to find a mistake
_SHAPES = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}"  # the model hub
    r"|\bBearer [A-Za-z0-9._~+/=-]{8,}"  # any HTTP header
    r"|(?<=://)[^/\s\"@:]+:[^/\s\"@]+(?=@)"  # user:password in an address
)


def is_secret(name: str) -> bool:
    """Does an environment variable of this name hold a secret? `TOKENIZERS_PARALLELISM` does not."""
    return bool(_NAME.search(name.upper())) and not _NOT_SECRET.search(name.upper())


def redacted(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text, plain or JSON, with the secrets of this process's environment and what looks like one replaced."""
    for secret in _secrets(os.environ if environment is None else environment):
        text = text.replace(secret, HIDDEN)
    return _SHAPES.sub(HIDDEN, text)


def _secrets(environment: Mapping[str, str]) -> list[str]:
    """Longest first, so that one that contains another goes whole; also as JSON would write them."""
    values = {value for name, value in environment.items() if is_secret(name) and len(value) >= _SHORTEST}
    return sorted(values | {json.dumps(value)[1:-1] for value in values}, key=len, reverse=True)
