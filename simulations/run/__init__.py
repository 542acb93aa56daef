"""One run: its configuration, its nodes, and what it leaves behind."""
