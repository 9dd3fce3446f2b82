# syntax=docker/dockerfile:1
# One image with the three programs; what runs is the container's command:
#
#   docker build -t llm-bench:0.1.0 .
#   docker run --rm -p 127.0.0.1:8000:8000 llm-bench:0.1.0 benchmark-service

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The cache mounts keep the crates and what was compiled across builds; the programs leave them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bins \
        --package llm-bench --package simulation-service --package benchmark-service \
 && install -D --target-directory=/out \
        target/release/llm-bench target/release/simulation-service target/release/benchmark-service

# glibc, libgcc and CA certificates, no shell; user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/ /usr/local/bin/
# The container is the boundary: inside it the services listen on every address.
ENV HTTP_ADDR=0.0.0.0:8000 \
    SIMULATION_HTTP_ADDR=0.0.0.0:8001
EXPOSE 8000 8001
CMD ["benchmark-service"]
