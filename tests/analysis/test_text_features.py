"""Features of a text are what a reader would say of each character, and know nothing of the characters to come."""

import pytest

from charlstm.analysis.text_features import text_features

TEXT = '''def f(a, b="x)"):  # it isn't (
    return 'y' + r'\\'' # "
"""A Doc
don't "stop" """
<!-- http://a.b --> // End
\tx = [1, {2: 30}]
'''


def where(feature, text):
    """The characters at which a yes-or-no feature is on."""
    on = text_features(text)[feature]
    return "".join(character if value else "·" for character, value in zip(text, on, strict=True))


@pytest.mark.parametrize(
    ("text", "feature", "on"),
    [
        ("a 'b' c", "inside quotes", "··'b···"),
        ("don't 'go'", "inside quotes", "······'go·"),
        ('x = r"a\\"b" + "c"', "inside quotes", '·····"a\\"b····"c·'),
        ("“hi” «ho» ‘", "inside quotes", "“hi··«ho···"),
        ("it 'tis\nno", "inside quotes", "···'tis···"),
        ('say "one\ntwo" end', "inside quotes", '····"one\ntwo·····'),
        ('never "closed\n\nnew', "inside quotes", '······"closed\n····'),
        ('a = """b"c""" d', "inside triple quotes", '······"b"c""··'),
        ('a = "" + b', "inside triple quotes", "··········"),
        ("f(a[1], {2}) x", "inside brackets", "·(a[1], {2}··"),
        (":-) (x\n\n) y", "inside brackets", "····(x\n····"),
        ("a # b\nc", "in a comment", "··# b··"),
        ("http://x // y\nz", "in a comment", "··········/ y··"),
        ("'#' # '", "in a comment", "····# '"),
        ("aB Cd e", "after a capital in the word", "·B·Cd··"),
        ("a12 3", "in a number", "·12·3"),
        ("  a b\n\tc", "in leading white space", "  ····\t·"),
        ("a\tb c", "between words", "·\t· ·"),
    ],
)
def test_features_are_what_a_reader_would_say(text, feature, on):
    assert where(feature, text) == on.ljust(len(text), "·")


def test_features_count_columns_letters_and_indentation():
    features = text_features("ab  cd\n  x\n")
    assert features["place in the line"].tolist() == [1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 0]
    assert features["place in the word"].tolist() == [1, 2, 0, 0, 1, 2, 0, 0, 0, 1, 0]
    assert features["indentation"].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 0]


def test_features_know_nothing_of_the_future():
    complete = text_features(TEXT)
    for length in range(len(TEXT)):
        for name, values in text_features(TEXT[:length]).items():
            assert values.tolist() == complete[name][:length].tolist(), name
