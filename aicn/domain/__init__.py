"""What the node talks about: frozen dataclasses and pure functions."""
