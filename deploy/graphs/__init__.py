"""A network as a small typed graph of inference operations. Read `graph` first."""
