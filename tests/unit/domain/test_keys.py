"""Keys: what is kept of a secret, and what patterns fit."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.domain.keys import Key, Scope, fits, new_secret, split_secret

LETTERS = st.text(alphabet="ab*/", max_size=12)


def test_a_secret_proves_its_own_key_alone() -> None:
    (one, one_digest, one_secret), (other, other_digest, other_secret) = new_secret(), new_secret()
    assert one != other
    parts, others = split_secret(one_secret), split_secret(other_secret)
    assert parts is not None
    assert others is not None
    assert parts[0] == one
    key = Key(one, "name", one_digest, Scope(), 0.0)
    assert key.proves(parts[1])
    assert not key.proves(others[1])
    assert not Key(other, "name", other_digest, Scope(), 0.0).proves(parts[1])
    assert parts[1] not in repr(key)


@pytest.mark.parametrize(
    "text",
    ["", "sk-abc", "aicn_", "aicn_0123456789ab_", "aicn_0123456789ab_" + "0" * 63, "aicn_0123456789ab_" + "٠" * 64],
)
def test_what_is_no_secret(text: str) -> None:
    assert split_secret(text) is None


@given(LETTERS, st.text(alphabet="ab/", max_size=12))
def test_a_pattern_means_what_the_regular_expression_does(pattern: str, text: str) -> None:
    assert fits(pattern, text) == (re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), text) is not None)


@pytest.mark.parametrize(
    ("models", "allowed"),
    [
        ((), True),
        (("m",), True),
        (("p/m",), True),
        (("p/*",), True),
        (("*",), True),
        (("q/*", "m*"), True),
        (("q/*",), False),
        (("q/m",), False),
        (("M",), False),
        (("p",), False),
    ],
)
def test_scopes(models: tuple[str, ...], allowed: bool) -> None:
    assert Scope(models=models).allows("p", "m") is allowed
