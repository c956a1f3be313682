"""Entry point of the deployment: the flow that runs Attractor pipelines."""

from kilroy_engine.orchestration.flows.attractor import attractor
from kilroy_engine.orchestration.mark import MARK

__all__ = ["attractor"]

if __name__ == "__main__":
    attractor.serve(name="attractor", tags=[MARK])
