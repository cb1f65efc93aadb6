"""Text in the form of WikiText: where its pages begin, and how its spaced-out tokens become prose again.

WikiText was split into words before it was published (`30 @,@ 000 members , who ...`), and a language model never saw
such text. The perplexity task of EleutherAI's lm-evaluation-harness therefore scores each page in a detokenized form,
and divides by the words and bytes of the page as published. Its replacements and their order are followed to the
letter, its slips included: figures are only comparable when the very same characters are scored.

    >>> detokenize("It cost 3 @,@ 000 ( or so ) , they say .\\n")
    'It cost 3,000 (or so), they say .\\n'
"""

import re

_PAIRS = ("()", "[]", "{}", '""', "''")


def _paired(opening: str, closing: str) -> tuple[str, str]:
    """Drops the spaces inside a pair of brackets or quotes."""
    return rf"{re.escape(opening)}\s*([^{re.escape(closing)}]*?)\s*{re.escape(closing)}", rf"{opening}\1{closing}"


_REPLACEMENTS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"s '", "s'"),
        (r"/' [0-9]/", "/'[0-9]/"),  # a slip of the original: it was meant to match `' 90` and matches almost nothing
        *((rf" @{re.escape(mark)}@ ", mark) for mark in "-,."),
        *((rf" {re.escape(mark)} ", f"{mark} ") for mark in ":;.!?,"),
        *(_paired(*pair) for pair in _PAIRS),
        *((" ".join("=" * count), "=" * count) for count in (4, 3, 2)),
        (" ° ", "°"),
        (r" \n", "\n"),
        (r"\n ", "\n"),
        (" N ", " 1 "),
        (" 's", "'s"),
    )
)


def split_pages(text: str) -> tuple[str, ...]:
    """Pages by their headings; what stands before the first one counts unless blank. Without headings: one page."""
    pages: list[list[str]] = [[]]
    for line in text.split("\n"):
        if _is_title(line):
            pages.append([])
        pages[-1].append(line)
    *earlier, last = ("\n".join(lines) for lines in pages)
    return (*(page for page in earlier if page.strip()), last)


def _is_title(line: str) -> bool:
    """` = Title = `; the headings of sections have more signs, which are joined first: ` = = Life = = `."""
    joined = line.replace("= = =", "===").replace("= =", "==").strip()
    return joined.startswith("= ") and joined.endswith(" =")


def detokenize(page: str) -> str:
    """The page as prose."""
    for pattern, replacement in _REPLACEMENTS:
        page = pattern.sub(replacement, page)
    return page


def count_words(page: str) -> int:
    """As the harness counts: pieces between white space, so a page that begins or ends with some has one more each."""
    return len(re.split(r"\s+", page))
