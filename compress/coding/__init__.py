"""What `compress.coding.huffman` is made of: code words, their lengths, and numbers as bytes."""
