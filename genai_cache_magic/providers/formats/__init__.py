"""How bodies are written: JSON, lines, events, parts of forms, media."""
