"""The networks of a config's `source`. Read `networks.names` and `networks.load`."""
