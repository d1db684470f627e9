"""Mistral's wire APIs that are no one else's: fill-in-the-middle, agents, conversations, documents."""
