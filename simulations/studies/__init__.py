"""Questions put to the rules and strategies, each with its own answer: theorems, cost, survival."""
