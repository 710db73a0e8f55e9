# bgp-agent: agent and speaker are two containers of this image, each with one capability: docs/tutorial/compose.md.
# BuildKit is needed. Where packages come through a mirror or a proxy with a CA of its own, give those as secrets, which
# no layer keeps: docker build --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt --secret id=pip,src=/etc/pip.conf .
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3-venv
COPY requirements/runtime.txt requirements/dev.txt /src/requirements/
# Two environments: the one that is shipped has no pip; the other builds, with the versions that dev.txt pins.
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/bgp-agent && python3 -m venv /opt/build \
 && awk '/^[a-z]/ {keep = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/} keep' /src/requirements/dev.txt >/opt/build.txt \
 && /opt/build/bin/pip install -q --no-cache-dir --require-hashes -r /opt/build.txt \
 && /opt/build/bin/pip --python /opt/bgp-agent/bin/python install -q --no-cache-dir --no-compile --require-hashes -r /src/requirements/runtime.txt
COPY pyproject.toml README.md LICENSE /src/
COPY bgp_agent /src/bgp_agent
COPY exabgp /src/exabgp
# Compiled here, and never looked at again for changes: the containers cannot write, and to compile at every start costs
# the agent 250 MiB.
RUN /opt/build/bin/pip wheel -q --no-cache-dir --no-deps --no-build-isolation -w /opt/wheel /src \
 && /opt/build/bin/pip --python /opt/bgp-agent/bin/python install -q --no-cache-dir --no-compile --no-deps --no-index /opt/wheel/*.whl \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/bgp-agent/lib

FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /usr/share/doc /usr/share/man /usr/share/locale
COPY --from=build /opt/bgp-agent /opt/bgp-agent
ENV PATH=/opt/bgp-agent/bin:$PATH
ENTRYPOINT ["bgp-agent"]
CMD ["run"]
