"""What livelog costs and how fast it is, measured with real workers: ``make bench``."""
