"""Opening a session, and scopes in it: of a cell, a function, a process, a run file."""
