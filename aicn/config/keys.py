"""The schema as data: one `Key` per setting, for everything that goes through all of them (load, save, describe)."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from aicn.config.schema import Config

MASK = "********"  # shown for a secret that is set

_KINDS = {
    "listen_multiaddr": "multiaddr such as /ip4/0.0.0.0/tcp/6001",
    "multiaddr": "multiaddr such as /dns4/node.example/tcp/6001",
    "peer_multiaddr": "multiaddr that ends in /p2p/<peer id>, such as /ip4/203.0.113.7/tcp/6001/p2p/16Uiu2HA…",
    "hex32": "64 hex digits, or nothing",
    "hostport": "address and port such as 127.0.0.1:6000 or [::1]:6000",
    "protocol_prefix": "protocol prefix such as /dbc",
    "name": "name of 1 to 128 printable characters",
    "file": "path of a file",
    "folder": "path of a folder",
    "url": "URL that begins with http:// or https://",
}


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: where it stands, what it may hold, what it does."""

    section: str
    name: str
    type: Any  # as annotated in the schema: str, int, float, bool, Path, Literal[…], tuple[str, ...], dict[str, int]
    default: Any
    doc: str
    least: float | None
    most: float | None
    secret: bool
    kind: str

    @property
    def path(self) -> str:
        """As users write it: `p2p.listen`."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that overrides it: `AICN_P2P_LISTEN`."""
        return f"AICN_{self.section}_{self.name}".upper()

    @property
    def choices(self) -> tuple[str, ...]:
        """All values of a Literal; () for the other types."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    @property
    def is_list(self) -> bool:
        return get_origin(self.type) is tuple

    @property
    def is_table(self) -> bool:
        return get_origin(self.type) is dict

    @property
    def bounds(self) -> str:
        """`1 to 256`, or nothing."""
        return "" if self.least is None else f"{_number(self.least)} to {_number(self.most)}"

    @property
    def expected(self) -> str:
        """What the key wants, for an error message: `a number from 1 to 256`."""
        within = f" from {_number(self.least)} to {_number(self.most)}" if self.least is not None else ""
        if self.choices:
            return "one of " + ", ".join(self.choices) if len(self.choices) > 1 else self.choices[0]
        if self.is_list:
            return f"a list, each entry a {_KINDS[self.kind]}"
        if self.is_table:
            return "a table of whole numbers" + within
        if self.type is bool:
            return "true or false"
        if self.type is int:
            return "a whole number" + within
        if self.type is float:
            return "a number" + within
        if self.kind:
            what = _KINDS[self.kind]
            return what if what[0].isdigit() else f"{'an' if what.startswith('a') else 'a'} {what}"
        return "a path" if self.type is not str else "text"


@cache
def sections() -> dict[str, type]:
    """Section name → its dataclass, in the order of the schema. Not to be changed by callers."""
    return get_type_hints(Config)


@cache
def keys() -> tuple[Key, ...]:
    """All settings, in the order of the schema."""
    return tuple(
        Key(
            section=section,
            name=f.name,
            type=hints[f.name],
            default=f.default if f.default_factory is MISSING else f.default_factory(),
            **f.metadata,
        )
        for section, cls in sections().items()
        for hints in [get_type_hints(cls)]
        for f in fields(cls)
    )


def value_of(config: Config, key: Key, *, mask: bool = False) -> Any:
    """What `config` has for `key`; with `mask` a secret that is set is replaced by asterisks."""
    value = getattr(getattr(config, key.section), key.name)
    return MASK if mask and key.secret and value else value


def _number(value: float | None) -> str:
    """As people write numbers: no exponent, no `.0`."""
    if value is None:
        return "any"
    return str(int(value)) if float(value).is_integer() else str(value)
