"""Configuration files as AIComputingNode writes them: `-init client`, `-init server`, and the examples of its documentation.

Made by hand from what the program does (pkg/config/init.go, docs/configuration.md); the identity is one of tests/vectors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

IDENTITY = json.loads((Path(__file__).parents[1] / "vectors/legacy/identity.json").read_text())[0]
PSK = "5e" * 32
BOOTSTRAP = "/ip4/203.0.113.7/tcp/6001/p2p/16Uiu2HAmS4CErxrmPryJbbEX2HFQbLK8r8xCA5rmzdSU59rHc9AF"


def client(**sections: Any) -> dict[str, Any]:
    """What `-init client` writes; `sections` replace whole ones."""
    return {
        "Bootstrap": [],
        "Addresses": ["/ip4/0.0.0.0/tcp/7001", "/ip6/::/tcp/7001"],
        "API": {"Addr": "127.0.0.1:7002"},
        "Identity": {"PeerID": IDENTITY["peer_id"], "PrivKey": IDENTITY["private_key_base64"]},
        "Swarm": {
            "ConnMgr": {"Type": "basic", "HighWater": 400, "LowWater": 100, "GracePeriod": "20s"},
            "DisableNatPortMap": False,
            "RelayClient": {"Enabled": False, "StaticRelays": None},
            "RelayService": {"Enabled": False},
            "EnableHolePunching": False,
            "EnableAutoNATService": True,
        },
        "Pubsub": {"Enabled": True, "Router": "gossipsub", "FloodPublish": True},
        "Routing": {"Type": "dhtclient", "ProtocolPrefix": "/DeepBrainChain"},
        "App": {
            "LogLevel": "info",
            "LogFile": "/home/node/host.log",
            "LogOutput": "file",
            "PreSharedKey": PSK,
            "TopicName": "SuperImageAI",
            "Datastore": "/home/node/datastore",
            "IpfsStorageAPI": "",
            "PeersCollect": {"Enabled": False, "HeartbeatInterval": "", "ClientProject": ""},
        },
        "AIProjects": None,
    } | sections


def server(**sections: Any) -> dict[str, Any]:
    """What `-init server` writes."""
    made = client()
    made["Swarm"] |= {"DisableNatPortMap": True, "RelayService": {"Enabled": True}}
    made["Pubsub"]["Router"] = "floodsub"
    made["Routing"]["Type"] = "dhtserver"
    made["App"] |= {
        "LogOutput": "stderr+file",
        "PeersCollect": {"Enabled": True, "HeartbeatInterval": "180s", "ClientProject": ""},
    }
    return made | sections


def worker(**sections: Any) -> dict[str, Any]:
    """A node behind a router with models, as the program's documentation shows one."""
    made = client()
    made["Bootstrap"] = [BOOTSTRAP]
    made["Swarm"]["RelayClient"] = {"Enabled": True, "StaticRelays": []}
    made["Swarm"]["EnableHolePunching"] = True
    made["App"]["IpfsStorageAPI"] = "http://203.0.113.9:4002"
    made["AIProjects"] = [
        {
            "Project": "SuperImage",
            "Models": [{"Model": "SuperImageAI", "API": "http://127.0.0.1:1088/models", "Type": 1}],
        },
        {
            "Project": "DecentralGPT",
            "Models": [
                {"Model": "Llama3-70B", "API": "http://127.0.0.1:1042/v1/chat/completions", "Type": 0},
                {"Model": "Qwen2-72B", "API": "http://127.0.0.1:1043/v1/chat/completions", "Type": 0, "CID": "0af3"},
            ],
        },
    ]
    return made | sections


def written(directory: Path, config: dict[str, Any]) -> Path:
    """`config` as a file, mode 0600 as the program gives it."""
    path = directory / "go.json"
    path.touch(0o600)
    path.write_text(json.dumps(config, indent=2))
    return path
