"""What is a line end, where a normal form may be cut, how characters are named."""

import unicodedata

from charlstm.text.characters import CODE_POINTS, name_characters, normalize_newlines, stable_prefix


def test_only_carriage_returns_become_line_ends():
    assert normalize_newlines("a\r\nb\rc\n\r") == "a\nb\nc\n\n"
    assert normalize_newlines("\u2028\x85\x0c") == "\u2028\x85\x0c"


def test_stable_prefixes_end_where_nothing_is_joined():
    seconds = {0x1161 + n for n in range(21)} | {0x11A8 + n for n in range(27)}
    for code in range(CODE_POINTS):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            seconds.add(int(parts[1], 16))
    for code in range(CODE_POINTS):
        character = chr(code)
        if not 0xD800 <= code < 0xE000 and stable_prefix(f"a{character}") == 1:
            first = unicodedata.normalize("NFKD", character)[0]
            assert unicodedata.combining(first) == 0, hex(code)
            assert ord(first) not in seconds, hex(code)
    assert stable_prefix("ab") == 1
    assert stable_prefix("a\u0301\u0301") == 0
    assert stable_prefix("a" + "\u0301" * 20_000) == 20_001  # however many marks, memory stays bounded


def test_a_few_characters_are_named():
    assert name_characters("a\n") == r"'a' (U+0061), '\n' (U+000A)"
    assert name_characters("abcdefg").endswith("'e' (U+0065) and 2 more")
