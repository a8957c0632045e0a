"""oneDNN's convolutions for the CPU: the primitive, the C++ it calls, how that is built."""
