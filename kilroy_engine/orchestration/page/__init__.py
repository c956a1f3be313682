"""What Prefect shows of a run besides its states: Prefect events and the summary."""
