"""API keys of a daemon: made by the command line, used by the official client, revoked, counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
import trio

from tests.e2e.nodes import AICN, environment, running, write_node
from tests.fakes.endpoint import open_fake_endpoint

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
HELLO: Any = [{"role": "user", "content": "Say hello."}]


async def aicn(*words: str, key: str = "") -> str:
    """What a command prints; it must succeed."""
    extra = {"AICN_KEY": key} if key else {}
    done = await trio.run_process([*AICN, *words], capture_stdout=True, env=environment(extra))
    return done.stdout.decode().strip()


async def test_the_official_client_with_a_key_without_and_after_it_was_revoked(tmp_path: Path) -> None:
    config = write_node(tmp_path, keys={"required": "always"}, storage={"dir": str(tmp_path / "data")})
    admin = await aicn("keys", "create", "ops", "--admin", "--data", str(tmp_path / "data"))
    async with open_fake_endpoint(tokens=4) as fake, running(config) as node:
        api = ("--api", node.url)
        await aicn("register", "p", "--model", "m", fake.url, *api, key=admin)
        made = json.loads(
            await aicn("keys", "create", "blog", "--models", "p/*", "--rpm", "3", "--json", *api, key=admin)
        )

        def ask(key: str, *, stream: bool) -> int:
            with openai.OpenAI(base_url=f"{node.url}/v1", api_key=key, max_retries=0, timeout=30) as client:
                if not stream:
                    return len(client.chat.completions.create(model="p/m", messages=HELLO).choices)
                return sum(1 for _ in client.chat.completions.create(model="p/m", messages=HELLO, stream=True))

        async def asked(key: str, *, stream: bool = False) -> int:
            return await trio.to_thread.run_sync(lambda: ask(key, stream=stream))

        with pytest.raises(openai.AuthenticationError) as caught:
            await asked("sk-any")
        assert caught.value.code == "invalid_api_key"
        assert await asked(made["key"]) == 1
        assert await asked(made["key"], stream=True) >= 4
        assert await asked(made["key"]) == 1
        with pytest.raises(openai.RateLimitError) as limited:
            await asked(made["key"])
        assert int(limited.value.response.headers["retry-after"]) > 0
        (used,) = json.loads(await aicn("usage", "--json", *api, key=made["key"]))
        assert (used["key"], used["requests"], used["failed"]) == (made["id"], 3, 0)
        assert [line.split("\t")[:3] for line in (await aicn("keys", "list", *api, key=admin)).splitlines()][1] == [
            made["id"],
            "blog",
            "p/*",
        ]
        await aicn("keys", "revoke", made["id"], *api, key=admin)
        with pytest.raises(openai.AuthenticationError):
            await asked(made["key"])
        secrets = [one.rpartition("_")[2] for one in (admin, made["key"])]
        assert not any(secret in line for secret in secrets for line in [*node.output, *node.log])
    for file in (tmp_path / "data").iterdir():
        assert not any(secret.encode() in file.read_bytes() for secret in secrets), file
    async with running(config) as node:
        (used,) = json.loads(await aicn("usage", "--json", "--api", node.url, key=admin))
        assert (used["key"], used["requests"]) == (made["id"], 3)
