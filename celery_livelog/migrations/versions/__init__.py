"""One script for each version of the schema; none is changed once it was released."""
