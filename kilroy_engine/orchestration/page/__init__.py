"""What Prefect shows of a run beside its states: events and the summary."""
