"""The local Prefect server that the first run starts where no other is configured."""
