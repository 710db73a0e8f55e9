"""Azure as the agent sees it: instance metadata, the resource manager (ARM), and what is found by asking them.

A shell: it reads and writes, and decides nothing. Nothing here is imported unless ``azure`` is configured:
:mod:`~bgp_agent.cloud.arm` and :mod:`~bgp_agent.cloud.credentials` bring in Azure's libraries and their memory.
"""
