import pytest
from m0_worker.tokenizers.byte_level import CHARACTER_OF_BYTE, from_alphabet, to_alphabet


def test_the_alphabet_is_one_to_one_and_printable() -> None:
    characters = [chr(CHARACTER_OF_BYTE[byte]) for byte in range(256)]
    assert len(set(characters)) == 256
    assert all(character.isprintable() and not character.isspace() for character in characters)


@pytest.mark.parametrize(
    ("text", "spelling"), [(" ", "Ġ"), ("\n", "Ċ"), ("\t", "ĉ"), ("a", "a"), ("é", "Ã©"), ("\x7f", "ġ")]
)
def test_well_known_spellings(text: str, spelling: str) -> None:
    assert to_alphabet(text) == spelling
    assert from_alphabet(spelling) == text.encode()


def test_every_byte_comes_back() -> None:
    spelling = "".join(chr(CHARACTER_OF_BYTE[byte]) for byte in range(256))
    assert from_alphabet(spelling) == bytes(range(256))


def test_characters_outside_the_alphabet_stand_for_themselves() -> None:
    assert from_alphabet("Ġ中Ã") == b" " + "中".encode() + b"\xc3"
