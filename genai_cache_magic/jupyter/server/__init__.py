"""The Jupyter server's part: what buttons, sidebar and status bar ask, answered while every kernel is busy."""
