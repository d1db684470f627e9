"""Runs: what a named experiment asked and was answered, as files that others can replay."""
