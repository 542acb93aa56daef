"""Numbers: how a round is computed, on every device; knows no rule, no reply and no Flower."""
