"""The kilroy command."""
