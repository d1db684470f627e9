"""Sealing: bytes in, bytes out. Knows nothing of entries, tiers or model calls."""
