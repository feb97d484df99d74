"""Proves the form of the tokens."""

from edge.api.token_form import hash_of, is_token, make_token


def test_one_is_fl_with_49_characters_and_never_the_same() -> None:
    made = {make_token() for _ in range(100)}
    assert len(made) == 100
    assert {(token[:3], len(token), token[3:].isalnum()) for token in made} == {("fl_", 52, True)}


def test_a_slip_of_the_hand_is_noticed_without_asking_anybody() -> None:
    token = make_token()
    assert is_token(token)
    for place in range(len(token)):
        other = "0" if token[place] != "0" else "1"
        assert not is_token(token[:place] + other + token[place + 1 :])
    for wrong in ("", "fl_", token[:-1], token + "0", token + "\n", token.upper(), token[3:]):
        assert not is_token(wrong)


def test_what_is_stored_is_the_sha_256() -> None:
    assert hash_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
