# mambad and mambactl with the bundled demo model.
#   docker build -t mambad .
#   docker run --rm -p 127.0.0.1:50051:50051 -p 127.0.0.1:8002:8002 mambad
# Your own model: -v DIR:/model:ro mambad serve --model /model --grpc-address 0.0.0.0:50051 --insecure-plaintext
FROM debian:12-slim AS build
WORKDIR /src
COPY deploy/install-deps.sh deploy/install-deps.sh
RUN sh deploy/install-deps.sh build
COPY . .
RUN cmake --preset cpu -DMAMBAD_TESTS=OFF
RUN cmake --build build/cpu --target mambad mambactl
RUN cmake --install build/cpu --strip --prefix /opt/mambad
RUN cp -r deploy/models /opt/mambad/models

# The installed tree brings its libraries; only libc and libstdc++ come from the image.
FROM debian:12-slim
COPY --from=build /opt/mambad /opt/mambad
ENV PATH=/opt/mambad/bin:/usr/local/bin:/usr/bin:/bin
USER 65532:65532
EXPOSE 50051 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m CMD ["mambactl", "health", "--server", "127.0.0.1:50051"]
ENTRYPOINT ["mambad"]
# Inside the container every address is beyond loopback; publish the ports to networks that you trust.
CMD ["serve", "--model", "/opt/mambad/models/mamba-tales", "--grpc-address", "0.0.0.0:50051", \
     "--http-address", "0.0.0.0:8002", "--insecure-plaintext"]
