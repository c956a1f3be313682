"""The local Prefect server, which a run starts where no Prefect API is configured."""
