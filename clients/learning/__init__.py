"""How a client learns: models, steps, many clients' steps at once, and schedules."""
