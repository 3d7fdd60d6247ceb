"""DNS addresses: the IP addresses that /dns, /dns4 and /dns6 stand for (multiaddr spec, protocols/DNS).

Upstream (transport/tcp/tcp.py:176) asks through a resolver of its own, which knows no /etc/hosts and no search domains, and then
tries one address after the other. /dnsaddr, which stands for whole multiaddrs in TXT records, is not diallable here.
"""

from __future__ import annotations

import socket

import trio
from multiaddr import Multiaddr

from aicn.errors import Unreachable
from aicn.p2p import addresses

RESOLVE_S = 5.0  # a resolver that works answers in milliseconds; the system's own patience is 10 s and more
_MOST_ANSWERS = 8  # addresses of one name that are tried
_FAMILIES = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}

_THREADS = 16  # at once; of their own, so that names that hostile peers invent hold up nothing else that needs a thread
_limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("aicn.p2p.names")


def is_name(address: Multiaddr) -> bool:
    """Whether it is a name that has to be resolved, and a port; the name of a circuit's relay is the relay's concern."""
    first, *others = address.protocols()
    return first.name in _FAMILIES and len(others) == 1


async def resolve(address: Multiaddr) -> list[Multiaddr]:
    """/dns4/<name>/tcp/<port> → /ip4/<address>/tcp/<port>, one for each, as the system orders them. Unreachable."""
    (protocol, name), *_ = address.items()
    port = int(str(address.value_for_protocol("tcp")))
    try:
        with trio.fail_after(RESOLVE_S):
            found = await trio.to_thread.run_sync(
                _ask, str(name), port, _FAMILIES[protocol.name], limiter=_threads(), abandon_on_cancel=True
            )
    except trio.TooSlowError:
        raise Unreachable(f"the name {name} was not resolved within {RESOLVE_S:g} s") from None
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"the name {name} is not known: {getattr(error, 'strerror', None) or error}") from None
    return list(dict.fromkeys(addresses.from_socket(one) for one in found))[:_MOST_ANSWERS]


def _threads() -> trio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        _limiter.set(limiter := trio.CapacityLimiter(_THREADS))
        return limiter


def _ask(name: str, port: int, family: socket.AddressFamily) -> list[tuple[str | int, ...]]:
    return [
        (str(entry[4][0]), int(entry[4][1])) for entry in socket.getaddrinfo(name, port, family, socket.SOCK_STREAM)
    ]
