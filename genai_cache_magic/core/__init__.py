"""Pure decisions: what a call is, its key, its frame, whether it is served or stored. No clock, no I/O."""
