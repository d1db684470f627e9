"""`make team`: two kernels share through Redis and through Azure Blob; with `--sealed`, a vault guards the key."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from genai_cache_magic.cli.demos.team_demo import demonstrate_team


def main() -> int:
    """Play both tiers; 1 if something was not as promised, also if a server is not installed."""
    parser = argparse.ArgumentParser(prog="team.py", description=__doc__)
    parser.add_argument("--sealed", action="store_true", help="let a simulated Key Vault guard the key")
    return demonstrate_team(Console(), sealed=parser.parse_args().sealed)


if __name__ == "__main__":
    sys.exit(main())
