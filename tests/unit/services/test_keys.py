"""The keys of a node: made, shown, revoked, expired."""

from __future__ import annotations

import pytest

from aicn.domain.keys import Scope
from aicn.errors import InvalidRequest, Unauthorized
from aicn.services import keys as service
from aicn.services.keys import Keys
from tests.fakes.stores import MemoryKeys


async def test_a_key_is_known_by_its_secret_also_after_a_restart_until_it_is_revoked() -> None:
    store = MemoryKeys()
    key, secret = await Keys(store).create("blog", Scope(requests_per_minute=3))
    again = Keys(store)
    with pytest.raises(Unauthorized):
        again.check(secret)
    await again.load()
    assert again.check(secret) == key
    assert again.listed() == [key]
    assert await again.revoke(key.id)
    assert not await again.revoke(key.id)
    with pytest.raises(Unauthorized) as caught:
        again.check(secret)
    assert secret.rpartition("_")[2] not in str(caught.value)
    assert store.keys == {}


async def test_a_secret_of_another_is_none_of_ours() -> None:
    keys = Keys(MemoryKeys())
    key, secret = await keys.create("a", Scope())
    wrong = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    for shown in (wrong, "", "sk-x", f"aicn_{'0' * 12}_{'0' * 64}"):
        with pytest.raises(Unauthorized):
            keys.check(shown)
    assert keys.check(secret).id == key.id


async def test_keys_expire() -> None:
    now = [1000.0]
    keys = Keys(MemoryKeys(), clock=lambda: now[0])
    with pytest.raises(InvalidRequest, match="expires_at"):
        await keys.create("a", Scope(expires_at=1000.0))
    _, secret = await keys.create("a", Scope(expires_at=1001.0))
    keys.check(secret)
    now[0] = 1001.0
    with pytest.raises(Unauthorized, match="expired"):
        keys.check(secret)


async def test_there_is_a_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_KEYS", 1)
    keys = Keys(MemoryKeys())
    await keys.create("a", Scope())
    with pytest.raises(InvalidRequest, match="1 keys"):
        await keys.create("b", Scope())
