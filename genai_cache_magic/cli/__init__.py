"""The command ``genai-cache``."""
