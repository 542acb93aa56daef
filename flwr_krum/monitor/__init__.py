"""What a running federation shows to those who operate it, read from its journal alone."""
