"""What may stand where the victim dials: its user connects to the attacker's address."""

from __future__ import annotations

import os

import httpx
import trio
from libp2p.peer.id import ID

from aicn.p2p.multistream import HEADER, proposal
from aicn.p2p.muxed_stream import YamuxStream
from tests.hostile.attacker import Attacker, new_key
from tests.hostile.table import POUR_S, abuse


def somebody() -> str:
    """A peer id of nobody."""
    return str(ID.from_pubkey(new_key().public_key))


def was_refused(response: httpx.Response) -> None:
    assert response.status_code >= 500, response.text


async def idle(stream: YamuxStream) -> None:
    """Serve nothing."""
    await trio.sleep_forever()


@abuse
async def another_answers(attacker: Attacker) -> None:
    """Who answers is not who was meant."""
    address = await attacker.listen_as(new_key(), idle)
    was_refused(await attacker.wants_to_connect(f"{address}/p2p/{somebody()}"))


@abuse
async def victim_dials_itself(attacker: Attacker) -> None:
    """The victim's own address under another's name, and under its own."""
    started = attacker.victim.started
    own = f"/ip4/127.0.0.1/tcp/{started.port}/p2p/"
    assert (await attacker.wants_to_connect(own + somebody())).status_code >= 400
    assert (await attacker.wants_to_connect(own + started.peer_id)).status_code == 400


@abuse
async def own_id_answers(attacker: Attacker) -> None:
    """Where another was meant, somebody with the victim's own key answers."""
    address = await attacker.listen_as(attacker.own_key_of_victim(), idle)
    was_refused(await attacker.wants_to_connect(f"{address}/p2p/{somebody()}"))


@abuse
async def nobody_speaks(attacker: Attacker) -> None:
    """Servers that accept and say nothing, or stop inside the handshake: the user may leave."""
    for hello in (b"", HEADER[:5], proposal("/noise"), proposal("/noise") + b"\xff\xff\0"):

        async def serve(stream: trio.SocketStream, hello: bytes = hello) -> None:
            await stream.send_all(hello)
            await trio.sleep_forever()

        address = await attacker.listen(serve)
        with trio.move_on_after(POUR_S):
            await attacker.wants_to_connect(f"{address}/p2p/{somebody()}")


@abuse
async def junk_answers(attacker: Attacker) -> None:
    """Servers that say something else, or megabytes of it."""
    for hello in (
        b"HTTP/1.1 200 OK\r\n\r\n",
        os.urandom(1 << 20),
        HEADER + b"\x03na\n" * 1000,
        proposal("/noise") + os.urandom(5000),
    ):

        async def serve(stream: trio.SocketStream, hello: bytes = hello) -> None:
            await stream.send_all(hello)

        address = await attacker.listen(serve)
        was_refused(await attacker.wants_to_connect(f"{address}/p2p/{somebody()}"))


@abuse
async def accepts_and_hangs_up(attacker: Attacker) -> None:
    """A peer that ends each connection as soon as it is made."""
    key = new_key()

    async def hang_up(stream: YamuxStream) -> None:
        await stream.muxed_conn.close()

    address = await attacker.listen_as(key, hang_up)
    peer = str(ID.from_pubkey(key.public_key))
    for _ in range(5):
        await attacker.wants_to_connect(f"{address}/p2p/{peer}")
        response = await attacker.post("/ai/project/peer", {"node_id": peer})
        assert response.json()["code"] != 0
