"""Looking after a cache: what is wrong with it, and what to do."""
