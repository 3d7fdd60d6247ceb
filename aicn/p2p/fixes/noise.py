"""A noise record is read directly, in however many pieces it comes.

security/noise/io.py:78 `read_msg` goes through msgio and io/utils.py:10 `read_exactly`, which gives up after 101 pieces (a large
record over a slow link ends the connection), and costs five coroutines and two formatted log lines per record: a sixth of the CPU of
a request. Test: tests/unit/p2p/test_fixes.py::test_a_noise_record_may_come_in_many_pieces.
"""

from __future__ import annotations

from libp2p.io.abc import Reader
from libp2p.io.exceptions import IncompleteReadError
from libp2p.security.noise.io import BaseNoiseMsgReadWriter

from aicn.p2p.fixes.patch import replace


async def read_msg(self: BaseNoiseMsgReadWriter, prefix_encoded: bool = False) -> bytes:
    """The plaintext of the next record. IncompleteReadError when the connection ends."""
    connection = self.read_writer.read_write_closer
    size = int.from_bytes(await _exactly(connection, 2), "big")
    record = await _exactly(connection, size)
    return self.decrypt(record[len(self.prefix) :] if prefix_encoded else record)


async def _exactly(connection: Reader, size: int) -> bytes:
    data = await connection.read(size)
    while len(data) < size:
        more = await connection.read(size - len(data))
        if not more:
            raise IncompleteReadError("connection closed", expected_bytes=size, received_bytes=len(data))
        data += more
    return data


def apply() -> None:
    replace(BaseNoiseMsgReadWriter, "read_msg", read_msg)
