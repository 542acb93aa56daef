"""Real runs: a SuperLink and SuperNodes of Flower as separate processes, on this machine."""
