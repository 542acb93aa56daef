"""What comes in from clients: bytes, names, claims; refuses by name and never raises."""
