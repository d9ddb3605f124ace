"""Which run on which machine: a plan with a lower bound of its own."""
