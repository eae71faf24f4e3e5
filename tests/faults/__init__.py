"""Real faults under real workers, and an oracle that knows what was printed and judges what is shown of it."""
