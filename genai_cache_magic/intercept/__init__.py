"""One file per HTTP client: where model calls are seen, recorded and replayed."""
