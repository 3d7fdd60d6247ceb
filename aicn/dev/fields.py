"""The members of a request to the demo endpoint, from JSON or from a form."""

from __future__ import annotations

from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

from aicn.errors import InvalidRequest, MalformedBody
from aicn.wire.completion import parse_object

_FORM = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Fields:
    """Members by name; those of a form are bytes. Every getter takes null and "" as absent and raises InvalidRequest."""

    members: dict[str, Any]

    def any(self, name: str) -> Any:
        """The member as it is; None when it is absent."""
        value = self.members.get(name)
        return None if value in ("", b"") else value

    def text(self, name: str, default: str) -> str:
        """A text."""
        value = self.any(name)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if not isinstance(value, str | None):
            raise InvalidRequest(f"{name}: a text is needed")
        return value or default

    def number(self, name: str, default: int, bounds: tuple[int, int]) -> int:
        """A whole number within `bounds`."""
        value, (least, most) = self.any(name), bounds
        if isinstance(value, bytes) and value.isdigit() and len(value) < 10:
            value = int(value)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise InvalidRequest(f"{name}: a whole number of {least} to {most} is needed")
        return value


def parse_fields(body: bytes, content_type: str) -> Fields:
    """The fields of a body of that type: a form (RFC 7578), else JSON. MalformedBody."""
    if content_type.partition(";")[0].strip().lower() != _FORM:
        members = parse_object(body)
        if members is None:
            raise MalformedBody("the body is no JSON object")
        return Fields(members)
    form = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body)
    if not form.is_multipart():
        raise MalformedBody("the body is no form")
    parts = ((part.get_param("name", header="content-disposition"), part) for part in form.iter_parts())
    return Fields({str(name): part.get_payload(decode=True) or b"" for name, part in parts if name})
