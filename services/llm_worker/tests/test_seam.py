"""Where a continuation joins what was said: no word twice, none lost, whatever the pieces."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from llm_worker.seam import LEAST_OF_A_WORD, MAX_LEAD, WINDOW, Seam


def join(said: str, pieces: list[str], *, hidden: str = "") -> tuple[str, bool]:
    """The whole answer as its reader has it, and whether it began anew."""
    seam, written = Seam(said, hidden=hidden), None
    for at, piece in enumerate(pieces):
        written = seam.feed(piece)
        if written is not None:
            written += "".join(pieces[at + 1 :])
            break
    if written is None:
        written = seam.close()
    return (written if seam.anew else said + written), seam.anew


def cut(text: str, sizes: list[int]) -> list[str]:
    """The text in pieces of these sizes, the last one as large as it must be."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    return [piece for piece in (*pieces, text[at:]) if piece]


LETTERS = "abcdefghijklmnopqrstuvwxyzäöüß"
# A word whose letters only ascend begins nowhere in its own middle, and none stands twice: nothing repeats by chance.
WORDS = st.lists(
    st.sets(st.sampled_from(LETTERS), min_size=3, max_size=7).map(lambda letters: "".join(sorted(letters))),
    min_size=2,
    max_size=60,
    unique=True,
).filter(lambda words: not any(one != other and other.startswith(one) for one in words for other in words))
SIZES = st.lists(st.integers(1, 12), max_size=40)


@st.composite
def texts(draw: st.DrawFn) -> str:
    words = draw(WORDS)
    gaps = draw(st.lists(st.sampled_from([" ", ", ", ".\n\n", "</p>\n<p>", " — "]), min_size=len(words)))
    return "".join(word + gap for word, gap in zip(words, gaps, strict=False))


@given(texts(), st.data(), SIZES)
def test_a_continuation_that_repeats_nothing_is_put_behind_as_it_is(
    text: str, data: st.DataObject, sizes: list[int]
) -> None:
    at = data.draw(st.integers(1, len(text)))
    assert join(text[:at], cut(text[at:], sizes)) == (text, False)


@given(texts(), st.data(), SIZES)
def test_a_continuation_that_repeats_the_last_words_repeats_them_to_nobody(
    text: str, data: st.DataObject, sizes: list[int]
) -> None:
    at = data.draw(st.integers(1, len(text)))
    begins = [n for n in range(max(0, at - WINDOW), at) if text[n].isalpha() and not text[n - 1 : n].isalpha()]
    assume(begins)
    start = data.draw(st.sampled_from(begins))
    assert join(text[:at], cut(text[start:], sizes)) == (text, False)


@given(texts(), st.data(), SIZES)
def test_a_long_repetition_counts_wherever_it_begins(text: str, data: st.DataObject, sizes: list[int]) -> None:
    at = data.draw(st.integers(1, len(text)))
    assume(at > LEAST_OF_A_WORD)
    again = data.draw(st.integers(LEAST_OF_A_WORD, min(at, WINDOW)))
    assume(any(map(str.isalpha, text[at - again : at])))
    assert join(text[:at], cut(text[at - again :], sizes)) == (text, False)


LONG = " ".join(f"word{n}" for n in range(500))


@given(st.integers(1, len(LONG)), SIZES)
def test_a_continuation_that_says_the_whole_answer_again_is_followed_and_not_heard_twice(
    at: int, sizes: list[int]
) -> None:
    # Most of it is further back than what is looked back at.
    assert join(LONG[:at], cut(LONG, [*sizes, *[7] * 600])) == (LONG, False)


@given(st.text("ab \n<é世", max_size=60), st.text("ab \n<é世", max_size=60), SIZES, SIZES)
def test_what_comes_of_it_does_not_depend_on_the_pieces(
    said: str, more: str, sizes: list[int], others: list[int]
) -> None:
    assert join(said, cut(more, sizes)) == join(said, cut(more, others))


@given(st.text("ab \n<é世", max_size=60), st.text("ab \n<é世", max_size=60), SIZES)
def test_nothing_is_left_out_but_what_stands_there_already(said: str, more: str, sizes: list[int]) -> None:
    whole, anew = join(said, cut(more, sizes))
    if anew:
        assert whole == more.lstrip()
    else:
        assert whole.startswith(said)
        added = whole[len(said) :]
        assert more.endswith(added)
        left_out = "".join(more[: len(more) - len(added)].split())
        assert "".join(said.split()).endswith(left_out)


@pytest.mark.parametrize(
    ("said", "more", "whole"),
    [
        ("The quick bro", "wn fox", "The quick brown fox"),
        ("The quick bro", "brown fox", "The quick brown fox"),
        ("The quick bro", " brown fox", "The quick brown fox"),
        ("The quick bro", "\n\nquick brown fox", "The quick brown fox"),
        ("The quick ", "quick brown", "The quick brown"),
        ("The quick\n", "quick brown", "The quick\n brown"),
        ("The fox ", "foxes are many", "The fox foxes are many"),
        ("Hel", "lo", "Hello"),
        ("a ban", "ana", "a banana"),
        ("unbeliev", "lievable", "unbelievable"),
        ("by hand ", "and foot", "by hand and foot"),
        ("I would never ", "ever do", "I would never ever do"),
        ("The fox jumps over ", "mps over it", "The fox jumps over it"),
        ("It costs 10", "00 euros", "It costs 1000 euros"),
        ("1000000", "0000000", "10000000000000"),
        ("One.\n", "\nTwo.", "One.\n\nTwo."),
        ("if x:\n    ", "    y()", "if x:\n        y()"),
        ("**Tip", ":** eat", "**Tip:** eat"),
        ("<ul><li>", "<li>Tofu</li>", "<ul><li>Tofu</li>"),
        ("吃豆", "吃豆腐", "吃豆腐"),
        ("你好", "好好", "你好好好"),
        ("Hello", "", "Hello"),
        ("Hello world", "world", "Hello world"),
        ("", "Hello", "Hello"),
        ("x", " " * (MAX_LEAD + 1) + "x", "x" + " " * (MAX_LEAD + 1) + "x"),
        ("ha ha ha", "! ha ha", "ha ha ha! ha ha"),
    ],
)
def test_words_meet(said: str, more: str, whole: str) -> None:
    for size in (1, 3, 100):
        assert join(said, cut(more, [size] * len(more))) == (whole, False)


def test_an_answer_that_begins_anew_in_other_words_is_recognised() -> None:
    said = "Sure, here are three ideas for your dinner: tofu with rice, and then"
    again = "Sure, here are three ideas for your lunch: lentils."
    assert join(said, cut(again, [5] * 20)) == (again, True)
    assert join(said, cut(f"\n{again}", [5] * 20)) == (again, True)
    assert join("Sure, here are three", ["Sure, here is one: "]) == ("Sure, here is one: ", True)


def test_a_common_beginning_of_few_characters_is_no_new_answer() -> None:
    said = "<p>Eat tofu, since it is cheap.</p>\n<p>Then"
    assert join(said + "</p>", ["<p>Eat ", "rice"]) == (said + "</p><p>Eat rice", False)


def test_white_space_that_the_model_was_not_shown_comes_once() -> None:
    assert join("One.\n\n", ["\n", "\nTwo."], hidden="\n\n") == ("One.\n\nTwo.", False)
    assert join("One.\n\n", ["Two."], hidden="\n\n") == ("One.\n\nTwo.", False)
    assert join("One ", ["  two"], hidden=" ") == ("One  two", False)


def test_hardly_anything_is_held_back() -> None:
    seam = Seam("Eat more beans, since they are cheap and ")
    assert seam.feed("b") is None
    assert seam.feed("el") == "bel"


def test_what_a_piece_ends_with_is_given_whole() -> None:
    assert Seam("Eat more ").feed("more beans and then some") == "beans and then some"
