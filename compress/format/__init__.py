"""What `compress.archive` is made of: arrays as streams, and files that nobody trusts."""
