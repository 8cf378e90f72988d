"""Requests to a server, and what is sent in them."""

import http.client
import io
import json
import socket
import time

from PIL import Image, ImageDraw

JPEG = {"Content-Type": "image/jpeg"}


def send(port, method, path, body=None, headers=None):
    """Send a request; return the status, headers and content of the response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def request_json(*args, **options):
    status, _, content = send(*args, **options)
    return status, json.loads(content)


def infer_body(images, **changed):
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": list(images.shape)}
    return json.dumps({"inputs": [tensor | {"data": images.ravel().tolist()} | changed]})


def photo(form="JPEG", mode="RGB", **how):
    """A drawn pair of trousers, as bytes."""
    image = Image.new("RGB", (400, 533), "#e4e0d8")
    legs = [(140, 60), (260, 60), (280, 480), (215, 480), (200, 180), (185, 480), (120, 480)]
    ImageDraw.Draw(image).polygon(legs, "#203060")
    file = io.BytesIO()
    image.convert(mode).save(file, form, **how)
    return file.getvalue()


def multipart(*parts):
    """A multipart body of (name, file name, content), and its header."""
    body = b""
    for name, file, content in parts:
        file = f'; filename="{file}"' if file is not None else ""
        body += f'--X\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + b"--X--\r\n", {"Content-Type": "multipart/form-data; boundary=X"}


def send_raw(port, *parts, pause=0.0):
    """Send bytes one part after the other; return the whole response."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server has responded and closed already
        response = b""
        try:
            while part := connection.recv(1 << 16):
                response += part
        except ConnectionResetError:
            pass
    return response


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
