"""Rules judged again on the replies of a run that is over, from the distances that it kept."""
