"""Each abuse of the table: an honest peer is served while it lasts and after it, and then nothing of it is left.

The victim is one process for all of them, so that what each leaves behind would add up.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from tests.hostile.abuses import (
    announcing,
    answering,
    conversing,
    dialled,
    gossip,
    handshake,
    identifying,
    muxing,
    negotiation,
    relaying,
    requesting,
    routing,
)
from tests.hostile.attacker import THROWN_OUT, open_attacker
from tests.hostile.honest import open_honest
from tests.hostile.table import ABUSES, Abuse
from tests.hostile.victim import Counts, Victim, running

pytestmark = pytest.mark.e2e

_MODULES = (
    announcing,
    answering,
    conversing,
    dialled,
    gossip,
    handshake,
    identifying,
    muxing,
    negotiation,
    relaying,
    requesting,
    routing,
)  # their import fills the table
_ABUSE_S = 15.0  # the longest of them, on a loaded machine
_BACK_S = 5.0  # for what an abuse used to be given back once it has ended
_PEAK = 192 << 20  # bytes that an abuse may cost at its height
_KEPT = (
    128 << 20
)  # bytes that all abuses together may leave: peers and messages remembered for a while, and what allocators keep
_LOG = 64 << 10  # bytes that all of them together may make a node say
_SLACK = {"tasks": 2, "fds": 2, "connections": 0, "streams": 4, "handshakes": 0}  # honest peers come and go


@pytest.fixture(scope="module")
def public_victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with running(tmp_path_factory.mktemp("public")) as victim:
        yield victim


@pytest.fixture(scope="module")
def private_victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with running(tmp_path_factory.mktemp("private"), psk="5a" * 32) as victim:
        yield victim


@pytest.mark.parametrize("abuse", ABUSES, ids=lambda one: one.name)
async def test_abuse(abuse: Abuse, request: pytest.FixtureRequest) -> None:
    victim: Victim = request.getfixturevalue("private_victim" if abuse.private else "public_victim")
    async with open_honest(victim) as honest:
        await honest.is_served()
        before = await victim.counts()
        async with open_attacker(victim) as attacker:
            began, thrown_out = trio.current_time(), ""
            try:
                with trio.fail_after(_ABUSE_S):
                    await abuse.run(attacker)
            except THROWN_OUT as error:
                thrown_out = repr(error)
            lasted = trio.current_time() - began
            during = await honest.is_served()
        after = await honest.is_served()
        peak = await is_back(victim, before)
    request.node.user_properties += [("lasted_s", lasted), ("thrown_out", thrown_out)]
    request.node.user_properties += [("honest_s", max(during, after)), ("peak_mib", peak >> 20)]
    assert peak < _PEAK


async def is_back(victim: Victim, before: Counts) -> int:
    """The victim holds what it held before; the bytes that its memory has grown by at its height meanwhile."""
    peak = 0
    with trio.move_on_after(_BACK_S):
        while True:
            more = (await victim.counts()).over(before)
            peak = max(peak, more["peak"])
            if all(more[name] <= slack for name, slack in _SLACK.items()):
                return peak
            await trio.sleep(0.05)
    raise AssertionError(f"left behind: {more}")


async def test_all_of_them_together_leave_nothing(public_victim: Victim) -> None:
    kept = (await public_victim.counts()).rss - public_victim.started.rss
    assert kept < _KEPT
    log = public_victim.log
    assert "Traceback" not in log
    assert not [line for line in log.splitlines() if " ERROR " in line or " WARNING " in line]
    of_strangers = [line for line in log.splitlines() if "id='honest'" not in line]
    assert sum(map(len, of_strangers)) < _LOG, "strangers fill the log"


def test_there_are_enough() -> None:
    assert len({abuse.name for abuse in ABUSES}) == len(ABUSES) >= 40
    assert all(abuse.run.__doc__ for abuse in ABUSES)
