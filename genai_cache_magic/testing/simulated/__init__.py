"""What the simulated model server says, one file per wire API; :mod:`..model_server` is the way in."""
