"""Who may see or write what: the parts that know no store."""
