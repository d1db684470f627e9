"""Opaque bytes at rest. Knows nothing of entries, keys or model calls."""
