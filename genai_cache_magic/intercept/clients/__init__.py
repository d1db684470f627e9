"""One file per HTTP client, with what it shares with its neighbours: calls are answered where they would be sent."""
