"""The node's key: secp256k1, kept as base64 of the libp2p protobuf (libp2p spec, peer-ids), which begins with `CAISI`. The existing
network's Go program keeps the protobuf itself; such files are read, too.

Works without libp2p, whose import takes a second: `aicn init` and `aicn id` need only this.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import base58
import coincurve

from aicn.domain.ids import PeerId
from aicn.errors import StartupError

# protobuf of crypto.pb: field 1 (Type) = 2 (Secp256k1), field 2 (Data) with its length
_PRIVATE_HEAD = bytes((0x08, 0x02, 0x12, 32))
_PUBLIC_HEAD = bytes((0x08, 0x02, 0x12, 33))
_PRIVATE_BYTES = 36
_LARGEST_FILE = 4096  # bytes; a key file has 49, one of the Go program 36


@dataclass(frozen=True)
class Key:
    """A private key: 32 bytes, never shown."""

    secret: bytes = field(repr=False)

    @property
    def public(self) -> bytes:
        """The libp2p protobuf public key, 37 bytes."""
        return _PUBLIC_HEAD + coincurve.PrivateKey(self.secret).public_key.format(compressed=True)

    def shared_with(self, public: bytes) -> bytes:
        """The x coordinate of the ECDH point with a libp2p protobuf public key (RFC 5903), 32 bytes; the existing network's secret
        between two nodes. ValueError: not a secp256k1 key."""
        if len(public) != len(_PUBLIC_HEAD) + _PUBLIC_HEAD[-1] or not public.startswith(_PUBLIC_HEAD):
            raise ValueError("not a secp256k1 libp2p public key")
        return coincurve.PublicKey(public[len(_PUBLIC_HEAD) :]).multiply(self.secret).format(compressed=True)[1:]


def public_key_in(peer: PeerId) -> bytes | None:
    """The libp2p protobuf public key that a peer id holds (identity multihash); None: it holds a hash."""
    digest = base58.b58decode(peer)
    return digest[2:] if digest[:1] == b"\0" else None


def generate_key() -> str:
    """A new random key, as it is kept in a file."""
    return key_text(Key(coincurve.PrivateKey().secret))


def key_text(key: Key) -> str:
    """`key` as it is kept in a file."""
    return base64.b64encode(_PRIVATE_HEAD + key.secret).decode()


def parse_key(text: str) -> Key:
    """The key that `text` holds; ValueError when it holds none (the message does not repeat it)."""
    try:
        data = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    return _decoded(data)


def _decoded(data: bytes) -> Key:
    if len(data) != _PRIVATE_BYTES or not data.startswith(_PRIVATE_HEAD):
        raise ValueError("not a secp256k1 libp2p private key (base64 that begins with CAISI)")
    try:
        return Key(coincurve.PrivateKey(data[4:]).secret)
    except ValueError:
        raise ValueError("not a number that can be a secp256k1 key") from None


def load_key(path: Path) -> Key:
    """The key kept in `path`, as base64 or as the protobuf itself.

    StartupError: missing, unreadable, not a key, or readable by others than its owner.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_LARGEST_FILE)
    except FileNotFoundError:
        raise StartupError(
            f"{path}: no key there; bring it back, or make a node with a new one: aicn init --dir DIR"
        ) from None
    except OSError as error:
        raise StartupError(f"{path}: the key cannot be read: {error.strerror}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StartupError(f"{path}: the key is readable by others (mode {stat.S_IMODE(mode):04o}); chmod 600 it")
    try:
        return _decoded(data) if data.startswith(_PRIVATE_HEAD) else parse_key(data.decode("ascii"))
    except UnicodeDecodeError:
        raise StartupError(f"{path}: not a key: not base64") from None
    except ValueError as error:
        raise StartupError(f"{path}: {error}") from None


def peer_id_of(key: Key) -> PeerId:
    """The peer id of `key`: identity multihash of the public key, `16Uiu2HA…`."""
    return PeerId(base58.b58encode(bytes((0, len(key.public))) + key.public).decode())
