"""Directories of stages, and of what stages begin: branches, child pipelines, restarts."""
