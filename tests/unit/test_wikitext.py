"""WikiText's own spelling: pages, prose, and words as the harness counts them."""

import pytest

from jobs.wikitext import count_words, detokenize, split_pages


def test_pages_begin_at_titles_and_not_at_sections() -> None:
    text = " \n = A = \n \n one\n = = Part = = \n two\n = B = \n three\n"
    assert split_pages(text) == (" = A = \n \n one\n = = Part = = \n two", " = B = \n three\n")


def test_a_text_without_titles_is_one_page() -> None:
    assert split_pages("just prose = that is\nall\n") == ("just prose = that is\nall\n",)


def test_words_before_the_first_title_are_a_page() -> None:
    assert split_pages("before\n = A = \nafter") == ("before", " = A = \nafter")


@pytest.mark.parametrize(
    ("published", "prose"),
    [
        ("3 @,@ 000 @-@ ton ships cost 1 @.@ 5", "3,000-ton ships cost 1.5"),
        ("wait ; what ? no : yes ! fine , then . end", "wait; what? no: yes! fine, then. end"),
        ("he ( or she ) said \" so \" and ' no ' of [ it ]", "he (or she) said \"so\" and 'no' of [it]"),
        ("the ships ' crew", "the ships' crew"),
        ("the crew 's boat", "the crew's boat"),
        ("ships ' crew 's", "ships'crew's"),  # two apostrophes are taken for quotes: the original's slip
        (" = = = Deep = = = \n text \n more", " === Deep ===\ntext\nmore"),
        ("20 ° C and N people", "20°C and 1 people"),
        ("a { b } c", "a {b} c"),
        ("it is /' 9/ here", "it is /'[0-9]/ here"),
    ],
)
def test_replacements(published: str, prose: str) -> None:
    assert detokenize(published) == prose


def test_white_space_at_the_ends_makes_empty_words() -> None:
    assert count_words("a b") == 2
    assert count_words(" a  b\n") == 4
