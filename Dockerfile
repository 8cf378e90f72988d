# A server for presets and exported models:
#   docker build -t fashion-cnn .
#   docker run --rm -p 127.0.0.1:8000:8000 fashion-cnn
# Another model: -v "$PWD/model.onnx:/model.onnx:ro" before the image's name, /model.onnx after it.
# `make container` runs these steps without a container engine.
FROM python:3.13 AS build
WORKDIR /src
COPY requirements-serve.lock .
RUN python -m venv --without-pip /opt/fashion-cnn && \
    pip --python /opt/fashion-cnn install --no-cache-dir --no-compile --require-hashes \
    -r requirements-serve.lock
COPY requirements-build.lock .
RUN pip install --no-cache-dir --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY LICENSES LICENSES
COPY src src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . && \
    pip --python /opt/fashion-cnn install --no-cache-dir --no-compile --no-deps /wheels/*.whl
# what no server needs
WORKDIR /opt/fashion-cnn/lib
RUN rm -r python3.*/site-packages/onnxruntime/transformers \
    python3.*/site-packages/onnxruntime/tools python3.*/site-packages/onnxruntime/quantization && \
    find . -name tests -type d -prune -exec rm -r {} + && \
    strip python3.*/site-packages/uvloop/*.so && \
    /opt/fashion-cnn/bin/fashion-cnn serve --help

FROM python:3.13-slim
COPY --from=build /opt/fashion-cnn /opt/fashion-cnn
USER 10001:10001
WORKDIR /tmp
ENV PATH=/opt/fashion-cnn/bin:$PATH PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
# another port: -e FASHION_CNN_LISTEN=9000, which the health check follows
ENV FASHION_CNN_LISTEN=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=10s --start-period=5s CMD ["python", "-c", \
    "import os, urllib.request as u; port = os.environ['FASHION_CNN_LISTEN']; \
    u.urlopen(f'http://127.0.0.1:{port}/v2/health/ready', timeout=9)"]
ENTRYPOINT ["fashion-cnn", "serve", "--host", "0.0.0.0"]
CMD ["clothes"]
