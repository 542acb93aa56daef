"""What a terminal and a picture show of runs."""
