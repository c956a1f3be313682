"""Decides what happens next, from the graph and the outcomes. Pure: no file, no process, no clock, no Prefect."""
