"""Entry point of the deployment: the flow that runs Attractor pipelines."""

from kilroy_engine.orchestration.flow import attractor

__all__ = ["attractor"]

if __name__ == "__main__":
    attractor.serve(name="attractor")
