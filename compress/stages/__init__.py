"""What each stage makes of a network: a file for each."""
