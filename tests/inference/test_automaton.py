"""Expressions as automata: what they accept is what `re.fullmatch` does, and every allowed step can be completed."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import SettingsError
from charlstm.inference import Automaton, compile_expression
from charlstm.inference.automaton import MOST_LINKS, MOST_STATES
from charlstm.text import Vocab, code_points, end_id

from .small_documents import documents_vocab, every_document, text_of

SMALL = documents_vocab("aBé3_\n")
EXPRESSIONS = [
    "",
    "a",
    "a*",
    "a+?B??",
    "(a|B){2,3}",
    "(?:a|aB|)*3",
    "(a*)*",
    "(a?){3}",
    "(?:a?B?){1,2}",
    "[^a]{,2}",
    r"\w+",
    r"\W\w*",
    r"\d|\D{2}",
    r"[^\W\d_]+",
    r"(?a)\w*",
    r"(?a:\w)\w*",
    r"(?i)b[É]+",
    r"(?i:b)B(?-i:a)",
    r"(?i)[^é]*",
    ".*",
    "(?s).*",
    r"\s?a",
    "^a$",
    r"(?:^a|(B|3)\Z)",
    r"\A(?:^a*)$",
    "(?x) a # a remark\n B",
    "[a-z3]{2}|é",
    "(?:a{2}){2}",
    "(?:(?a:\\w)(?u:\\w))+",
    "(?P<name>a)B",
    "a(?:(){3}){5}B{0}",
]


def accepts(automaton: Automaton, vocab: Vocab, ids: list[int]) -> bool:
    rest = automaton.after(ids)
    return rest is not None and bool(rest.allowed(np.array([rest.start]), np.array([1]))[0, end_id(vocab)])


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_automaton_accepts_what_fullmatch_does(expression: str) -> None:
    automaton = compile_expression(expression, SMALL)
    for ids in every_document(SMALL, 4):
        text = text_of(SMALL, ids)
        assert accepts(automaton, SMALL, ids) == bool(re.fullmatch(expression, text)), text


def test_automaton_of_repeats_of_nothing_costs_nothing() -> None:
    automaton = compile_expression(
        "a(?:(?:(){60000}){60000}){1000000000}B{0}", SMALL
    )  # with which `re` itself cannot cope
    assert [
        text for ids in every_document(SMALL, 2) if accepts(automaton, SMALL, ids) and (text := text_of(SMALL, ids))
    ] == ["a"]


parts = st.recursive(
    st.sampled_from(["a", "B", ".", r"\w", "[^a]", r"\d", "é"]),
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}", "*?"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        )
    ),
    max_leaves=6,
)


@given(parts)
def test_automaton_accepts_what_fullmatch_does_of_any_expression(expression: str) -> None:
    automaton = compile_expression(expression, SMALL)
    shortest = [ids for ids in every_document(SMALL, 3) if re.fullmatch(expression, text_of(SMALL, ids))]
    for ids in every_document(SMALL, 3):
        assert accepts(automaton, SMALL, ids) == (ids in shortest)
    if shortest:
        assert automaton.shortest == len(shortest[0])


@given(parts, st.integers(0, 99), st.integers(0, 9))
def test_automaton_allows_only_steps_that_can_be_completed_in_what_is_left(
    expression: str, seed: int, more: int
) -> None:
    rng = np.random.default_rng(seed)
    automaton = compile_expression(expression, SMALL)
    states, ids = np.array([automaton.start]), list[int]()
    for left in range(automaton.shortest + more + 1, 0, -1):
        (possible,) = automaton.allowed(states, np.array([left]))
        one = int(rng.choice(np.flatnonzero(possible)))
        if one == end_id(SMALL):
            break
        ids.append(one)
        states = automaton.advance(states, np.array([one]))
    else:
        pytest.fail("no end was forced")
    assert re.fullmatch(expression, text_of(SMALL, ids))


@pytest.mark.parametrize("left", [2**31 - 2, 2**31 - 1, 2**31, 2**62])
def test_automaton_constrains_however_much_is_left(left: int) -> None:
    automaton = compile_expression("a3", SMALL)
    (first,) = automaton.allowed(np.array([automaton.start]), np.array([left]))
    assert np.flatnonzero(first).tolist() == SMALL.lookup(code_points("a")).tolist()


def test_automaton_of_bytes_is_that_of_the_bytes_expression() -> None:
    vocab = documents_vocab("", unit="byte")
    for expression in ("é", r"\w", "[aé]", r"[^\x00-\xfe]", "."):
        automaton = compile_expression(expression, vocab)
        for ids in every_document(vocab, 1):
            assert accepts(automaton, vocab, ids) == bool(re.fullmatch(expression.encode(), bytes(ids)))
    e_acute = list("é".encode())
    assert accepts(compile_expression("é", vocab), vocab, e_acute)


def test_automaton_of_a_stream_model_writes_no_line_end_and_no_unknown_symbol() -> None:
    vocab = Vocab("char", "keep", "replace", True, ("\n", "a"))
    automaton = compile_expression("(?s).*", vocab)
    (first,) = automaton.allowed(np.array([0]), np.array([9]))
    assert end_id(vocab) == 0
    assert first.tolist() == [True, True, False]  # the end, a, the unknown
    with pytest.raises(SettingsError, match="matches nothing"):
        compile_expression("a\n", vocab)


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("(a", "no expression of Python's re"),
        ("a{2,1}", "no expression of Python's re"),
        ("a{99999999999}", "no expression of Python's re"),
        ("a(?=B)B", "look-around"),
        ("(?<!a)B", "look-around"),
        ("(?!)", "look-around"),
        (r"(a)\1", "back reference"),
        ("(a)?(?(1)a|B)", "conditional"),
        ("a*+", "possessive"),
        ("(?>a*)", "atomic"),
        (r"a\b", "word boundary"),
        ("a^B", "anchor inside"),
        ("(?:a$)*", "anchor inside"),
        ("(?:" * 5000 + ")" * 5000, "nested too deeply"),
        ("(?:a|B)*a" + "(?:a|B)" * 20, f"more than {MOST_STATES:,} states"),
        ("a{30000}", f"more than {MOST_STATES:,} states"),
        ("(?:|a){15000}", f"{MOST_LINKS:,} steps between them"),
        (".*a{15000}", f"{MOST_LINKS:,} steps between them"),
        ("Ж", "matches nothing that can be written with the model's 7 symbols"),
        ("aЖ|[^\\s\\S]", "matches nothing"),
    ],
)
def test_automaton_refuses_in_a_sentence(expression: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        compile_expression(expression, SMALL)


def test_automaton_needs_an_end() -> None:
    with pytest.raises(SettingsError, match="have no end"):
        compile_expression("a", Vocab("char", "keep", "error", False, ("a",)))
