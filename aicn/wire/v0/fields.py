"""Fields that several calls have."""

from __future__ import annotations

from typing import Any

from aicn.domain.names import LONGEST_NAME
from aicn.domain.registration import check_url
from aicn.errors import InvalidRequest


def name(members: dict[str, Any], key: str, where: str = "") -> str:
    text = members.get(key)
    if not isinstance(text, str) or not text:
        raise InvalidRequest(f"{where}{key}: a name is needed")
    if len(text) > LONGEST_NAME:
        raise InvalidRequest(f"{where}{key}: {len(text)} characters; at most {LONGEST_NAME} are allowed")
    if not text.isprintable() or text != text.strip():
        raise InvalidRequest(f"{where}{key}: control characters and spaces at its ends are not allowed")
    return text


def url(text: object, where: str) -> str:
    try:
        check_url(text)
    except InvalidRequest as error:
        raise InvalidRequest(where + error.message.removeprefix("url")) from None
    assert isinstance(text, str)  # check_url saw to it
    return text
