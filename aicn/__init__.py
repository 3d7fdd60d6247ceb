"""aicn: a peer-to-peer AI inference node."""

__version__ = "0.1.0"
