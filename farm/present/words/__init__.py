"""What people read, in English and Spanish: the report's sentences, and the phrases of the figures.

    say("es", "question_cache")            # '¿Qué aporta la caché KV al decodificar?'
    number(2048), number(29.66)            # '2,048', '29.7'

Decimals are written with a point in both (the RAE allows it, and it then equals the figures'); thousands take a comma
in English and a narrow space in Spanish, where a comma would read as a decimal.
"""

import re

from farm.errors import FarmError, unknown
from farm.present.words import dashboard_en, dashboard_es, en, es

LANGUAGES = {"en": en.TEXTS | dashboard_en.TEXTS, "es": es.TEXTS | dashboard_es.TEXTS}
DEFAULT = "en"
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
NARROW_SPACE = "\u202f"


def check_language(language: str) -> str:
    """The language itself. Raises FarmError for one that nobody wrote texts in."""
    if language not in LANGUAGES:
        raise FarmError(unknown("language", language, LANGUAGES, "--lang"))
    return language


def say(language: str, name: str, /, **values: object) -> str:
    """The text of that name, with its values filled in; every number in it by the language's rules."""
    return numbers_in(language, LANGUAGES[language][name].format(**values))


def number(value: float) -> str:
    """Three figures or so, as a table would print them: 2,048 and 119 and 29.7 and 0.71."""
    size = abs(value)
    digits = 0 if size >= 100 or float(value).is_integer() else 1 if size >= 10 else 2
    return f"{value:,.{digits}f}"


def numbers_in(language: str, text: str) -> str:
    """`2,048` as the language writes it."""
    return _THOUSANDS.sub(NARROW_SPACE, text) if language == "es" else text
