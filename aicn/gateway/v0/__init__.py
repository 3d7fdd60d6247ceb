"""The v0 HTTP API: spec 1, under /api/v0."""
