"""What the simulated Azure services consist of: certificates, tokens, keys, rights and errors, each in its file."""
