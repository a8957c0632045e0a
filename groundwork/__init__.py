"""What all commands stand on: data, devices, training, runs, reports, networks."""
