"""load: every way a configuration can be wrong is one line that says where, what and how to mend it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.config.keys import keys
from aicn.config.load import environment, load
from aicn.config.schema import Config
from aicn.errors import ConfigError

PEER = "16Uiu2HAmS4CErxrmPryJbbEX2HFQbLK8r8xCA5rmzdSU59rHc9AF"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_an_empty_file_gives_the_defaults_with_paths_beside_it(tmp_path: Path) -> None:
    config = load(write(tmp_path, ""), {})
    assert config.p2p == Config().p2p
    assert config.identity.key_file == tmp_path / "peer.key"
    assert config.storage.dir == tmp_path / "data"


def test_values_of_every_type(tmp_path: Path) -> None:
    text = f"""
    [identity]
    key_file = "/etc/aicn/key"
    [p2p]
    listen = ["/ip6/::1/tcp/0", "/ip4/127.0.0.1/tcp/7001"]
    announce = ["/dns4/node.example/tcp/6001"]
    bootstrap = ["/ip4/203.0.113.7/tcp/6001/p2p/{PEER}"]
    psk = "{"AB" * 32}"
    dht_mode = "server"
    dial_s = 3
    [http]
    listen = "[::1]:8000"
    [limits]
    queue = 0
    model_concurrency = {{ "Llama3-70B" = 4 }}
    [local_model]
    enabled = true
    path = "models/m.gguf"
    """
    config = load(write(tmp_path, text), {})
    assert config.identity.key_file == Path("/etc/aicn/key")
    assert config.p2p.listen == ("/ip6/::1/tcp/0", "/ip4/127.0.0.1/tcp/7001")
    assert config.p2p.announce == ("/dns4/node.example/tcp/6001",)
    assert config.p2p.bootstrap == (f"/ip4/203.0.113.7/tcp/6001/p2p/{PEER}",)
    assert config.p2p.psk == "ab" * 32
    assert config.p2p.dht_mode == "server"
    assert (config.p2p.dial_s, type(config.p2p.dial_s)) == (3.0, float)
    assert config.http.listen == "[::1]:8000"
    assert config.limits.queue == 0
    assert config.limits.model_concurrency == {"Llama3-70B": 4}
    assert config.local_model.enabled is True
    assert config.local_model.path == str(tmp_path / "models/m.gguf")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "[p2p]\nlisten = ['/ip4/0.0.0.0/tcp/1']\n[limits]\nqueue = 3\n")
    environ = {
        "AICN_P2P_LISTEN": "/ip4/127.0.0.1/tcp/0, /ip6/::1/tcp/0",
        "AICN_P2P_BOOTSTRAP": f'["/ip4/203.0.113.7/tcp/6001/p2p/{PEER}"]',
        "AICN_LOCAL_MODEL_ENABLED": "Yes",
        "AICN_LIMITS_MODEL_CONCURRENCY": '{ "a b" = 2 }',
        "AICN_LIMITS_QUEUE": "7",
        "AICN_LIMITS_GAP_S": "0.5",
        "AICN_STORAGE_DIR": "elsewhere",
        "AICN_CONFIG": "not for load",
        "AICN_API": "not for load",
        "AICN_API_KEY": "not for load either",
        "PATH": "/bin",
    }
    config = load(path, environ)
    assert config.p2p.listen == ("/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0")
    assert config.p2p.bootstrap == (f"/ip4/203.0.113.7/tcp/6001/p2p/{PEER}",)
    assert config.local_model.enabled is True
    assert config.limits.model_concurrency == {"a b": 2}
    assert (config.limits.queue, config.limits.gap_s) == (7, 0.5)
    assert config.storage.dir == tmp_path / "elsewhere"
    assert environment(environ) == {"PATH": "/bin"}


def test_an_empty_list_can_be_set_by_the_environment(tmp_path: Path) -> None:
    path = write(tmp_path, f"[p2p]\nbootstrap = ['/ip4/203.0.113.7/tcp/6001/p2p/{PEER}']")
    assert load(path, {"AICN_P2P_BOOTSTRAP": ""}).p2p.bootstrap == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[p2p]\nlistne = []", ["p2p.listne", "unknown key", "did you mean p2p.listen?"]),
        ("[http]\npsk = ''", ["http.psk", "did you mean p2p.psk?"]),
        ("[limits]\nxyzzy = 1", ["limits.xyzzy", "limits has concurrency"]),
        ("[p3p]", ["p3p", "unknown section", "did you mean [p2p]?"]),
        ("[xyzzy]", ["xyzzy", "there are [identity], [p2p]"]),
        ("listen = 1", ["listen: every key belongs to a [section]", "p2p.listen"]),
        ("p2p = 1", ["p2p: expected a section"]),
        ("[http\n", ["not TOML", "line 1"]),
        ("[http]\n[http]", ["not TOML", "line 2"]),
        ("x = " + "1" * 5000, ["not TOML"]),
        ("[limits]\nqueue = true", ["limits.queue", "a whole number from 0 to 100000", "got true"]),
        ("[limits]\nqueue = 1.5", ["limits.queue", "got 1.5"]),
        ("[limits]\nqueue = -1", ["limits.queue", "got -1"]),
        ("[limits]\nconnect_s = 0", ["limits.connect_s", "a number from 0.05 to 600", "got 0"]),
        ("[limits]\nconnect_s = nan", ["limits.connect_s"]),
        ("[limits]\nconnect_s = true", ["limits.connect_s"]),
        ("[limits]\nmodel_concurrency = { a = 'x' }", ["limits.model_concurrency", "a table of whole numbers"]),
        ("[limits]\nmodel_concurrency = 3", ["limits.model_concurrency"]),
        ("[local_model]\nenabled = 1", ["local_model.enabled", "true or false"]),
        ("[logging]\nlevel = 'loud'", ["logging.level", "one of debug, info, warning, error", '"loud"']),
        ("[ipfs]\npublic_url = 'ftp://x'", ["ipfs.public_url", "a URL that begins with http://", '"ftp://x"']),
        ("[ipfs]\npublic_url = '127.0.0.1:5001'", ["ipfs.public_url", "a URL"]),
        ("[images]\nlocal_paths = 1", ["images.local_paths", "a path of a folder"]),
        ("[p2p]\nlisten = '/ip4/1.2.3.4/tcp/1'", ["p2p.listen", "a list"]),
        ("[p2p]\nlisten = [1]", ["p2p.listen"]),
        ("[p2p]\nlisten = ['/ip4/1.2.3/tcp/1']", ["p2p.listen", "multiaddr such as"]),
        ("[p2p]\nlisten = ['/ip4/1.2.3.4/tcp/65536']", ["p2p.listen"]),
        ("[p2p]\nlisten = ['/ip4/1.2.3.4/udp/1']", ["p2p.listen"]),
        ("[p2p]\nlisten = ['/dns4/a.example/tcp/1']", ["p2p.listen"]),
        ("[p2p]\nannounce = ['/ip4/1.2.3.4/tcp/0']", ["p2p.announce"]),
        ("[p2p]\nbootstrap = ['/ip4/1.2.3.4/tcp/1']", ["p2p.bootstrap", "/p2p/<peer id>"]),
        ("[p2p]\nbootstrap = ['/ip4/1.2.3.4/tcp/1/p2p/0OIl']", ["p2p.bootstrap"]),
        ("[p2p]\ndht_prefix = 'dbc'", ["p2p.dht_prefix"]),
        ("[p2p]\ndht_prefix = '/dbc/'", ["p2p.dht_prefix"]),
        ("[p2p]\ntopic = ''", ["p2p.topic", "1 to 128"]),
        ('[p2p]\ntopic = "a\\nb"', ["p2p.topic"]),
        ("[http]\nlisten = ':6000'", ["http.listen", "127.0.0.1:6000"]),
        ("[http]\nlisten = '127.0.0.1'", ["http.listen"]),
        ("[http]\nlisten = '999.0.0.1:1'", ["http.listen"]),
        ("[http]\nlisten = '::1:6000'", ["http.listen"]),
        ("[http]\nlisten = '127.0.0.1:6001'", ["http.listen", "another port than p2p.listen", "6001"]),
        ("[identity]\nkey_file = '.'", ["identity.key_file", "path of a file"]),
        ("[identity]\nkey_file = 'keys/'", ["identity.key_file"]),
        ("[storage]\ndir = ''", ["storage.dir"]),
        ("[storage]\ndir = 1", ["storage.dir", "a path"]),
    ],
)
def test_what_is_wrong_in_the_file_is_said_in_one_line(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("AICN_P2P_LISTNE", "x", ["unknown environment variable", "did you mean AICN_P2P_LISTEN?"]),
        ("AICN_XYZZY", "x", ["AICN_XYZZY", "unknown environment variable"]),
        ("AICN_LIMITS_QUEUE", "many", ["AICN_LIMITS_QUEUE", "limits.queue", "a whole number"]),
        ("AICN_LIMITS_GAP_S", "inf", ["limits.gap_s"]),
        ("AICN_LOCAL_MODEL_ENABLED", "maybe", ["true or false", '"maybe"']),
        ("AICN_P2P_LISTEN", "[", ["p2p.listen"]),
        ("AICN_LIMITS_MODEL_CONCURRENCY", "a=1", ["limits.model_concurrency"]),
    ],
)
def test_what_is_wrong_in_the_environment_names_the_variable(
    tmp_path: Path, variable: str, value: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, ""), {variable: value})
    message = str(caught.value)
    assert variable in message
    for word in words:
        assert word in message


def test_urls_and_folders(tmp_path: Path) -> None:
    text = "[ipfs]\napi = 'http://u:p@127.0.0.1:5001/x'\n[images]\nlocal_paths = 'drawn/'"
    config = load(write(tmp_path, text), {})
    assert config.ipfs.api == "http://u:p@127.0.0.1:5001/x"
    assert config.images.local_paths == str(tmp_path / "drawn")
    assert load(write(tmp_path, "[images]\nlocal_paths = ''"), {}).images.local_paths == ""


def test_the_network_key_has_one_place(tmp_path: Path) -> None:
    assert load(write(tmp_path, "[p2p]\npsk_file = 'swarm.key'"), {}).p2p.psk_file == str(tmp_path / "swarm.key")
    with pytest.raises(ConfigError, match=r"p2p\.psk_file: expected nothing"):
        load(write(tmp_path, f"[p2p]\npsk_file = 'swarm.key'\npsk = '{'ab' * 32}'"), {})


@pytest.mark.parametrize("secret", ["a" * 63, "z" * 64, "hunter2"])
def test_a_wrong_secret_is_not_repeated(tmp_path: Path, secret: str) -> None:
    with pytest.raises(ConfigError, match=r"p2p\.psk: expected 64 hex digits") as in_file:
        load(write(tmp_path, f"[p2p]\npsk = '{secret}'"), {})
    with pytest.raises(ConfigError, match="AICN_P2P_PSK") as in_environment:
        load(write(tmp_path, ""), {"AICN_P2P_PSK": secret})
    assert secret not in str(in_file.value) + str(in_environment.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file; make one with: aicn init"):
        load(tmp_path / "config.toml", {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {})
    (tmp_path / "latin.toml").write_bytes(b"# \xe4")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "latin.toml", {})


def test_relative_paths_do_not_depend_on_where_the_node_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    assert load(Path("config.toml"), {}).storage.dir == tmp_path / "data"


@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.integers().map(str))
def test_no_text_gives_anything_but_a_config_or_a_config_error(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text("")
    for key in keys():
        try:
            assert isinstance(load(path, {key.variable: text}), Config)
        except ConfigError as error:
            assert key.path in str(error)
