"""What other tools are told of the calls of a process: numbers, spans, and alerts."""
