"""The compose lab: what runs in the containers of docker-compose.yml beside bgp-agent and the Azure twin."""
