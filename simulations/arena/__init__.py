"""The arena: every rule against every attack."""
