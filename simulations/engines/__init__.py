"""Where virtual clients compute: in this process, together or one by one, or on Ray."""
