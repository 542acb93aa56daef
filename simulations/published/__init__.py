"""Tables that others published, run again under their settings and compared cell by cell."""
