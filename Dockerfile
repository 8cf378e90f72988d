# A server for presets and exported models, on loopback's port 8000 of the machine:
#   docker build -t fashion-cnn .
#   docker run --rm -p 127.0.0.1:8000:8000 fashion-cnn
# Another model: -v "$PWD/model.onnx:/model.onnx:ro" and /model.onnx as the last word.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements-serve.lock .
RUN python -m venv /opt/fashion-cnn && \
    /opt/fashion-cnn/bin/pip install --no-cache-dir --require-hashes -r requirements-serve.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN /opt/fashion-cnn/bin/pip install --no-cache-dir --no-deps --no-build-isolation . && \
    /opt/fashion-cnn/bin/pip uninstall --yes pip

FROM python:3.13-slim
COPY --from=build /opt/fashion-cnn /opt/fashion-cnn
USER 10001:10001
WORKDIR /tmp
ENV PATH=/opt/fashion-cnn/bin:$PATH PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["python", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]
ENTRYPOINT ["fashion-cnn", "serve", "--host", "0.0.0.0"]
CMD ["photo"]
