"""The key of a private network: where it is kept, and what is said when a peer has another one."""

from __future__ import annotations

import base64
import binascii
import logging
from pathlib import Path

import trio

from aicn.config.schema import P2P
from aicn.errors import ProtocolViolation, StartupError

log = logging.getLogger(__name__)

_SIZE = 32  # bytes
_HEAD = b"/key/swarm/psk/1.0.0/"  # first line of a swarm.key file (go-libp2p, core/pnet/codec.go); the encoding is the second
_LARGEST_FILE = 4096  # bytes; a swarm.key file has 95
_AGAIN_S = 300.0  # between two warnings about the same address
_MOST_ADDRESSES = 256  # warned about in that time: a whole network with another key is no reason to fill the log


class OtherNetwork(ProtocolViolation):
    """The peer has another private network key, or none."""


def network_key(config: P2P) -> bytes | None:
    """The configured key, 32 bytes; None: no private network. StartupError: the file cannot be read or holds none."""
    if config.psk:
        return bytes.fromhex(config.psk)
    return load_network_key(Path(config.psk_file)) if config.psk_file else None


def load_network_key(path: Path) -> bytes:
    """The key in `path`, 32 bytes. StartupError."""
    try:
        with path.open("rb") as file:
            return parse_network_key(file.read(_LARGEST_FILE))
    except OSError as error:
        raise StartupError(f"{path}: the private network key cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise StartupError(f"{path}: not a private network key: {error}") from None


def parse_network_key(data: bytes) -> bytes:
    """The key in `data`: 64 hex digits, or what a swarm.key file holds. ValueError (the message does not repeat it)."""
    lines = data.split(b"\n", 2)
    if lines[0].strip() != _HEAD:
        return _sized(_hex(data))
    if len(lines) < 3:
        raise ValueError("it ends before the key")
    encoding, text = lines[1].strip(), lines[2]
    match encoding:
        case b"/base16/":
            return _sized(_hex(text))
        case b"/base64/":
            return _sized(_base64(text))
        case b"/bin/":
            return _sized(text[:-1] if len(text) == _SIZE + 1 and text.endswith(b"\n") else text)
    raise ValueError("the encoding is none of /base16/, /base64/ and /bin/")


def _hex(text: bytes) -> bytes:
    try:
        return binascii.unhexlify(text.strip())
    except ValueError:
        raise ValueError(f"{2 * _SIZE} hex digits are needed") from None


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except ValueError:
        raise ValueError("not base64") from None


def _sized(key: bytes) -> bytes:
    if len(key) != _SIZE:
        raise ValueError(f"{_SIZE} bytes are needed, not {len(key)}")
    return key


class Warnings:
    """Warns of peers with another network key: once per address in a while, however often they come."""

    def __init__(self) -> None:
        self._warned: dict[str, float] = {}  # address → when, the longest ago first

    def other_network(self, address: str) -> None:
        """A peer at `address`, an IP address, speaks with another key."""
        now = trio.current_time()
        while self._warned and next(iter(self._warned.values())) <= now - _AGAIN_S:
            del self._warned[next(iter(self._warned))]
        if address not in self._warned and len(self._warned) < _MOST_ADDRESSES:
            self._warned[address] = now
            log.warning("a peer at %s speaks with another private network key, or none", address)
