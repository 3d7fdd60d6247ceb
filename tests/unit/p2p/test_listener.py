import errno
import socket

import pytest
import trio
from libp2p.io.trio import TrioTCPStream
from multiaddr import Multiaddr

from aicn.errors import StartupError
from aicn.p2p.listener import Listener, bind, bind_all

LOOPBACK = Multiaddr("/ip4/127.0.0.1/tcp/0")


def port_of(listener: Listener) -> int:
    return int(str(listener.get_addrs()[0]).rsplit("/", 1)[1])


async def test_a_burst_is_accepted_in_batches() -> None:
    listener = bind(LOOPBACK)
    accepted = 0
    done = trio.Event()

    async def handle(stream: TrioTCPStream) -> None:
        nonlocal accepted
        accepted += 1
        await stream.close()
        if accepted == 200:
            done.set()

    clients = [socket.create_connection(("127.0.0.1", port_of(listener))) for _ in range(200)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve, handle)
        with trio.fail_after(2):
            await done.wait()
        await listener.close()  # ends `serve`
    for client in clients:
        client.close()


async def test_a_port_in_use_also_when_both_would_share_it() -> None:
    listener = bind(LOOPBACK)
    with pytest.raises(StartupError, match="in use"):
        bind(listener.get_addrs()[0])
    listener.stop()
    listener.stop()
    bind(Multiaddr(f"/ip4/127.0.0.1/tcp/{port_of(listener)}")).stop()


async def test_both_families_on_one_port() -> None:
    four = bind(Multiaddr("/ip4/0.0.0.0/tcp/0"))
    six = bind(Multiaddr(f"/ip6/::/tcp/{port_of(four)}"))
    assert port_of(four) == port_of(six)
    four.stop()
    six.stop()


class Failing(socket.socket):
    """Accepts nothing, for the reasons given, one after the other."""

    reasons: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        raise OSError(self.reasons.pop(0), "scripted") if self.reasons else BlockingIOError


async def test_connections_that_fail_while_being_accepted_are_passed_over() -> None:
    sock = Failing()
    sock.bind(("127.0.0.1", 0))
    sock.reasons = [errno.ECONNABORTED, errno.EMFILE, errno.ECONNABORTED]
    listener = Listener(sock)
    assert listener._accept_pending() == []
    assert listener._exhausted
    assert sock.reasons == [errno.ECONNABORTED]
    assert listener._accept_pending() == []
    assert not listener._exhausted
    listener.stop()


@pytest.fixture
def no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose kernel has no IPv6."""

    class Socket(socket.socket):
        def __init__(self, family: int = -1, *args: int, **kwargs: int) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *args, **kwargs)

    monkeypatch.setattr("aicn.p2p.listener.socket.socket", Socket)


@pytest.mark.usefixtures("no_ipv6")
async def test_without_ipv6_its_addresses_are_left_out_unless_they_are_all(caplog: pytest.LogCaptureFixture) -> None:
    six = Multiaddr("/ip6/::/tcp/0")
    (listener,) = bind_all([six, LOOPBACK])
    await listener.close()
    (record,) = caplog.records
    assert record.getMessage() == f"{six}: cannot listen there: Address family not supported by protocol"
    with pytest.raises(StartupError, match=f"{six}: cannot listen there"):
        bind_all([six])


async def test_all_addresses_are_bound_or_none() -> None:
    first = bind(LOOPBACK)
    taken = Multiaddr(str(first.get_addrs()[0]))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(StartupError, match=f"{taken}: cannot listen there"):
        bind_all([Multiaddr(f"/ip4/127.0.0.1/tcp/{port}"), taken])
    (again,) = bind_all([Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")])  # the first of the two is free again
    for listener in (first, again):
        await listener.close()
