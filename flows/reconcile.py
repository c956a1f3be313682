"""Entry point of the deployment that ends lost runs, every minute."""

from kilroy_engine import reconcile_runs

__all__ = ["reconcile_runs"]

if __name__ == "__main__":
    reconcile_runs()
