"""One visit, from the request to the outcome."""
