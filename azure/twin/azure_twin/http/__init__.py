"""The HTTP shell: aiohttp requests become values, the core's answers become HTTP."""
