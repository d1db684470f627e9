"""The entries of a namespace that a team shares: this machine's tier, the team's behind it, and the outbox between."""
