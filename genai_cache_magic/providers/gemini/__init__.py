"""Gemini's wire APIs, of Google AI and of Vertex AI."""
