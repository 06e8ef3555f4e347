# mambad and mambactl with the bundled demo model.
#   docker build -t mambad .                        the CPU
#   docker build -t mambad:cuda --target cuda .     NVIDIA GPUs of compute capability 8.0 or later
#   docker run --rm -p 127.0.0.1:50051:50051 -p 127.0.0.1:8002:8002 mambad
#   docker run --rm --gpus 1 -p 127.0.0.1:50051:50051 -p 127.0.0.1:8002:8002 mambad:cuda
# Your own model: -v DIR:/model:ro mambad serve --model /model --grpc-address 0.0.0.0:50051 --insecure-plaintext
ARG CUDA_TOOLKIT=nvidia/cuda:13.0.1-devel-ubuntu22.04

FROM debian:12-slim AS sources
WORKDIR /src
COPY deploy/install-deps.sh deploy/install-deps.sh
RUN sh deploy/install-deps.sh build
COPY . .

FROM sources AS build-cpu
RUN cmake --preset cpu -DMAMBAD_TESTS=OFF
RUN cmake --build build/cpu --target mambad mambactl
RUN cmake --install build/cpu --strip --prefix /opt/mambad
RUN cp -r deploy/models /opt/mambad/models

# Only the compiler and the static runtime are taken from the toolkit; the libraries stay Debian's.
FROM ${CUDA_TOOLKIT} AS cuda-toolkit
FROM sources AS build-cuda
COPY --from=cuda-toolkit /usr/local/cuda-13.0 /usr/local/cuda
ENV PATH=/usr/local/cuda/bin:/usr/local/bin:/usr/bin:/bin
RUN cmake --preset cuda -DMAMBAD_TESTS=OFF
RUN cmake --build build/cuda --target mambad mambactl
RUN cmake --install build/cuda --strip --prefix /opt/mambad
RUN cp -r deploy/models /opt/mambad/models

# The installed tree brings its libraries; only libc and libstdc++ come from the image.
FROM debian:12-slim AS runtime
ENV PATH=/opt/mambad/bin:/usr/local/bin:/usr/bin:/bin
USER 65532:65532
EXPOSE 50051 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m CMD ["mambactl", "health", "--server", "127.0.0.1:50051"]
ENTRYPOINT ["mambad"]
# Inside the container every address is beyond loopback; publish the ports to networks that you trust.
CMD ["serve", "--model", "/opt/mambad/models/mamba-tales", "--grpc-address", "0.0.0.0:50051", \
     "--http-address", "0.0.0.0:8002", "--insecure-plaintext"]

# The driver's libraries are put in by NVIDIA's container toolkit. MAMBAD_DEVICE=cuda: no GPU is an error here, not a
# reason to serve on the CPU.
FROM runtime AS cuda
COPY --from=build-cuda /opt/mambad /opt/mambad
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility MAMBAD_DEVICE=cuda

FROM runtime AS cpu
COPY --from=build-cpu /opt/mambad /opt/mambad
