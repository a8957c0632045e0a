"""What `compress.huffman` is made of: code words, their lengths, and numbers as bytes."""
