"""What a session adds when a team shares its answers: storage, its line, the keyset and its guard, joining later."""
