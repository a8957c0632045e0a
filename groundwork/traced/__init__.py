"""What a traced network says about itself, and other computations in its place."""
