# syntax=docker/dockerfile:1

# The program.
FROM rust:1-slim-bookworm AS build
# aws-lc-sys and the bundled SQLite are compiled from C; the first also needs cmake.
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake g++ make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# .cargo has a setting that SQLite is compiled with.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
COPY crates crates
# The page is part of the program.
COPY web web
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p copal-cli \
    && cp target/release/copal /usr/local/bin/copal

# The key of PostgreSQL's own packages, as Debian has it: no download that nothing vouches for.
FROM debian:bookworm-slim AS key
RUN apt-get update \
    && apt-get install -y --no-install-recommends postgresql-common

FROM debian:bookworm-slim
# pg_dump must not be older than the server. 18 is the newest that Copal is tested with, and it reads servers from 12 on.
ARG POSTGRES_MAJOR=18
COPY --from=key /usr/share/postgresql-common/pgdg/apt.postgresql.org.asc /usr/share/keyrings/postgresql.asc
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates tzdata \
    && echo "deb [signed-by=/usr/share/keyrings/postgresql.asc] https://apt.postgresql.org/pub/repos/apt bookworm-pgdg main" \
        >/etc/apt/sources.list.d/postgresql.list \
    && apt-get update \
    && apt-get install -y --no-install-recommends "postgresql-client-$POSTGRES_MAJOR" \
    && rm -rf /var/lib/apt/lists/*
# A volume that is made from this folder belongs to the same user.
RUN useradd --uid 10001 --create-home --home-dir /home/copal copal \
    && install -d -o copal -g copal /home/copal/.local /home/copal/.local/state /home/copal/.local/share
COPY --from=build /usr/local/bin/copal /usr/local/bin/copal
USER copal
ENV HOME=/home/copal
WORKDIR /home/copal
# Caches and local memory, and the repository if none is configured.
VOLUME /home/copal
ENTRYPOINT ["copal"]
