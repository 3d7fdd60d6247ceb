"""The only caller of model endpoints."""
