"""Identities: the URI in a certificate and the party that it names, one to one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.rpc import Party, Role

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


@given(NAMES, st.sampled_from(Role), NAMES)
def test_uri_and_party_are_one_to_one(consortium: str, role: Role, name: str) -> None:
    party = Party(consortium, role, name)
    assert Party.parse(party.uri) == party
    assert party.uri == f"mple://{consortium}/{role.value}/{name}"
    assert party.label == f"{role.value}/{name}"


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    try:
        party = Party.parse(text)
    except ValueError:
        return
    assert party.uri == text


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "mple://",
        "mple://test/site",
        "mple://test/site/north/",
        "mple://test/site/north/x",
        "mple:///site/north",
        "mple://test//north",
        "mple://test/site/",
        "mple://test/SITE/north",
        "mple://test/site/North",
        "mple://test/site/north\n",
        "mple://test/site/-north",
        "mple://test/site/" + "n" * 64,
        "MPLE://test/site/north",
        "http://test/site/north",
        "mple://test/site/nörth",
    ],
)
def test_refused_uris(uri: str) -> None:
    with pytest.raises(ValueError, match=r"is no identity|lower-case letters"):
        Party.parse(uri)
