"""Devices as a mesh, several processes as one run, requests to stop."""
