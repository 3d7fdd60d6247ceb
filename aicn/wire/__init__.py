"""Formats, sans-io: bytes to messages and back, no trio."""
