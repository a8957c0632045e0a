"""What `compress.quantize` is made of: from one array to a stored form."""
