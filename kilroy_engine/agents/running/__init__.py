"""Agents that are programs: how one is started, watched, understood and judged. What differs between them is an adapter."""
