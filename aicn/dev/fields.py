"""The members of a request to the demo endpoint, from JSON or from a form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aicn.errors import InvalidRequest, MalformedBody
from aicn.wire.completion import parse_object
from aicn.wire.form import FORM_TYPE, decode_form


@dataclass(frozen=True, slots=True)
class Fields:
    """Members by name; files of a form are bytes. Every getter takes null and "" as absent and raises InvalidRequest."""

    members: dict[str, Any]

    def any(self, name: str) -> Any:
        """The member as it is; None when it is absent."""
        value = self.members.get(name)
        return None if value in ("", b"") else value

    def text(self, name: str, default: str) -> str:
        """A text."""
        value = self.any(name)
        if not isinstance(value, str | None):
            raise InvalidRequest(f"{name}: a text is needed")
        return value or default

    def number(self, name: str, default: int, bounds: tuple[int, int]) -> int:
        """A whole number within `bounds`; a form has it as text."""
        value, (least, most) = self.any(name), bounds
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
            value = int(value)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise InvalidRequest(f"{name}: a whole number of {least} to {most} is needed")
        return value


def parse_fields(body: bytes, content_type: str) -> Fields:
    """The fields of a body of that type: a form, else JSON. MalformedBody, InvalidRequest."""
    if content_type.partition(";")[0].strip().lower() == FORM_TYPE:
        texts, files = decode_form(body, content_type)
        return Fields({**texts, **{part.name: part.data for part in files}})
    members = parse_object(body)
    if members is None:
        raise MalformedBody("the body is no JSON object")
    return Fields(members)
