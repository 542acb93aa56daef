"""The paper's figures, from declarative experiment files to pictures and verdicts."""
