"""What a run's folder holds: the net's card and weights, results; the net as a function."""
