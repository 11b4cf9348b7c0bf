"""Names that look the same are one name, and file names are valid on every file system."""

import logging
from unicodedata import normalize

import pytest

from hffruits.core.names import clean_name, file_key, file_name, match_names, name_key, unify_names

ALIKE = [
    ("Jalapeño", normalize("NFD", "Jalapeño")), ("Apple", "apple"), ("Apple", " Apple "),
    ("Royal Gala", "Royal  Gala"), ("Royal Gala", "Royal\u00a0Gala"), ("Kiwi", "Ki\u200bwi"),
    ("Kiwi", "\ufeffKiwi"), ("Straße", "STRASSE"), ("Kiwi", "\u202bKiwi"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_look_alike_have_one_key(one, other):
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("Apple", "Apples"), ("Pear", "Peár"), ("Apple/Red", "AppleRed"), ("0", "O")]
)
def test_names_that_differ_to_a_reader_have_two(one, other):
    assert name_key(one) != name_key(other)


def test_a_clean_name_has_only_visible_characters():
    assert clean_name(normalize("NFD", " Jalape\u200bño\t grün ")) == "Jalapeño grün"
    assert clean_name("\u200b \n") == ""
    joined = "\u0646\u200c\u0647"  # a joiner that Persian needs
    assert clean_name(joined) == joined


def test_names_that_differ_in_case_become_the_commonest_one_with_a_warning(caplog):
    assert unify_names({"Apple": 2, "apple": 3, "APPLE": 1, "Kiwi": 1}) == {
        "Apple": "apple", "apple": "apple", "APPLE": "apple", "Kiwi": "Kiwi",
    }  # fmt: skip
    assert "APPLE (1 photo), Apple (2 photos), apple (3 photos): treated as one" in caplog.text


def test_names_in_two_unicode_forms_are_one_without_a_word(caplog):
    other = normalize("NFD", "Jalapeño")
    with caplog.at_level(logging.INFO):
        assert unify_names({"Jalapeño": 2, other: 3}) == {"Jalapeño": "Jalapeño", other: "Jalapeño"}
    assert not caplog.text


def test_a_name_is_first_the_known_one_that_it_equals():
    assert match_names(["apple", "APPLE", "Fig"], ["Apple", "apple"]) == {
        "apple": "apple", "APPLE": "Apple",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Apple", "Apple"), ("a/b\\c", "a_b_c"), ("..", "__"), (".x", "_.x"), ("", "_"),
        ("CON", "_CON"), ("nul.jpg", "_nul.jpg"), ("Com1", "_Com1"), ("Console", "Console"),
        ("St.", "St_"), ("a ", "a_"), ("a:b?", "a_b_"), ("__MACOSX", "___MACOSX"),
    ],
)  # fmt: skip
def test_a_file_name_fits_every_file_system(name, expected):
    assert file_name(name) == expected


def test_paths_that_a_file_system_may_take_for_one_have_one_key():
    assert file_key("Apple/1.JPG") == file_key("apple/1.jpg")
    assert file_key("Jalapeño") == file_key(normalize("NFD", "jalapeño"))
    assert file_key("a b") != file_key("ab")


def test_of_many_names_that_differ_in_case_ten_are_warned_of(caplog):
    pairs = {name: 1 for number in range(30) for name in (f"apple {number}", f"Apple {number}")}
    assert len(set(unify_names(pairs).values())) == 30
    assert len(caplog.messages) == 11
