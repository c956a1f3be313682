"""Entry point of the deployment: the flow that runs Attractor pipelines."""

from kilroy_engine import attractor

__all__ = ["attractor"]

if __name__ == "__main__":
    attractor.serve(name="attractor", tags=["kilroy.run"])
