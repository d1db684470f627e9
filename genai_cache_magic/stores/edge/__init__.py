"""A read-only edge in front of Blob: what is read there first, and purged there."""
