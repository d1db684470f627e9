"""Anthropic's messages API, its own and on the clouds."""
