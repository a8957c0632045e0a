"""What a traced network says of itself, and other computations in its place."""
