"""One file per wire API: pure functions that read requests and answers."""
