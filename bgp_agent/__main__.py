"""``bgp-agent`` and ``python -m bgp_agent``."""

from __future__ import annotations

import sys

from bgp_agent.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
