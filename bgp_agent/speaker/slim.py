"""Import this before asyncio: it keeps OpenSSL out of a process that speaks no TLS.

asyncio does without the ssl module where there is none. For a host that is to run beside every node that is a fifth of
its memory (5 MiB). Whoever imported asyncio or ssl before is left alone, and ssl stays importable afterwards.
"""

from __future__ import annotations

import sys

if "ssl" not in sys.modules and "asyncio" not in sys.modules:
    sys.modules["ssl"] = None  # type: ignore[assignment]  # what makes `import ssl` raise ImportError
    import asyncio  # noqa: F401

    del sys.modules["ssl"]
