"""Virtual and real runs of a federation under attack, and what comes out of them."""
