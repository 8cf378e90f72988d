"""Pictures that tests draw: garments, and things that are none."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from fashion_cnn.inference.drawing import FONT

SIZE = 600
GARMENTS = {  # class -> corners, of a square of 100
    "T-shirt": "30,12 42,12 46,17 54,17 58,12 70,12 94,32 84,46 73,38 73,90 27,90 27,38 16,46 6,32",
    "long-sleeve top": "32,12 43,12 47,16 53,16 57,12 68,12 80,24 95,78 84,82 72,46 72,90 28,90 "
    "28,46 16,82 5,78 20,24",
    "trousers": "32,6 68,6 76,95 57,95 51,36 49,36 43,95 24,95",
    "shorts": "28,25 72,25 84,72 54,75 51,50 49,50 46,75 16,72",
    "skirt": "37,18 63,18 84,84 16,84",
    "dress": "36,5 41,5 45,16 55,16 59,5 64,5 62,28 60,40 80,95 20,95 40,40 38,28",
}
COLORS = ((150, 40, 50), (40, 60, 120), (235, 235, 230), (40, 40, 42))


def photograph(image: Image.Image, seed: int) -> Image.Image:
    """A drawing with light from above, noise and a lens that is not quite sharp."""
    noise = np.random.default_rng(seed).normal(0, 6, (image.height, image.width, 1))
    light = np.linspace(8, -8, image.height)[:, np.newaxis, np.newaxis]
    pixels = (np.asarray(image) + noise + light).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1))


def garment(name: str, color: tuple[int, int, int]) -> Image.Image:
    """A garment of one color on a light background, RGB, 600x600."""
    image = Image.new("RGB", (SIZE, SIZE), (225, 220, 212))
    corners = [
        tuple(SIZE * float(x) / 100 for x in pair.split(",")) for pair in GARMENTS[name].split()
    ]
    edge = tuple(int(0.6 * value) for value in color)
    ImageDraw.Draw(image).polygon(corners, fill=color, outline=edge, width=4)
    return photograph(image, sum(color))


def noise(seed: int) -> Image.Image:
    """Random pixels: in squares of one to 60 pixels, gray or in color."""
    rng = np.random.default_rng(seed)
    side = (1, 4, 15, 60)[seed % 4]
    pixels = rng.integers(0, 256, (SIZE // side, SIZE // side, 3), dtype=np.uint8)
    image = Image.fromarray(pixels if seed % 2 else pixels[..., 0]).convert("RGB")
    return image.resize((SIZE, SIZE), Image.Resampling.NEAREST)


def text(seed: int) -> Image.Image:
    """A page of random words."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (SIZE, SIZE), tuple(map(int, rng.integers(200, 256, 3))))
    draw, size = ImageDraw.Draw(image), int(rng.integers(14, 48))
    font = ImageFont.truetype(FONT, size)
    for y in range(20, SIZE, round(1.4 * size)):
        words = (
            "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), n))
            for n in rng.integers(2, 10, 9)
        )
        draw.text((20, y), " ".join(words), font=font, fill=tuple(map(int, rng.integers(0, 90, 3))))
    return photograph(image, seed)


def face(seed: int) -> Image.Image:
    """A head with eyes, nose and mouth, in front of a wall."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (SIZE, SIZE), tuple(map(int, rng.integers(60, 256, 3))))
    draw = ImageDraw.Draw(image)
    skin = tuple(map(int, np.array([224, 172, 140]) * rng.uniform(0.5, 1.05)))
    hair = tuple(map(int, rng.integers(10, 120, 3)))
    x, y, w, h = 300, 300, int(rng.integers(140, 190)), int(rng.integers(190, 250))
    draw.ellipse((x - w - 20, y - h - 30, x + w + 20, y + h // 2), fill=hair)
    draw.ellipse((x - w, y - h, x + w, y + h), fill=skin)
    for side in (-1, 1):
        eye = x + side * w // 2
        draw.ellipse((eye - 30, y - 70, eye + 30, y - 35), fill=(250, 250, 250))
        draw.ellipse((eye - 13, y - 66, eye + 13, y - 40), fill=hair)
        draw.arc((eye - 38, y - 115, eye + 38, y - 70), 200, 340, fill=hair, width=9)
    draw.line((x, y - 30, x - 18, y + 45, x + 12, y + 48), fill=(120, 80, 60), width=6)
    draw.chord((x - 60, y + 80, x + 60, y + 140), 0, 180, fill=(170, 60, 70))
    return photograph(image, seed)


def landscape(seed: int) -> Image.Image:
    """Sky, sun, mountains and a meadow."""
    rng = np.random.default_rng(seed)
    image = Image.new(
        "RGB", (SIZE, SIZE), tuple(map(int, rng.integers((90, 140, 190), (170, 210, 256))))
    )
    draw = ImageDraw.Draw(image)
    x = int(rng.integers(60, 540))
    draw.ellipse((x - 40, 50, x + 40, 130), fill=(255, 240, 170))
    for depth in range(3):
        points = np.cumsum(rng.normal(0, 35, 31)) + 240 + 70 * depth
        ridge = [(20 * i, float(y)) for i, y in enumerate(points)]
        color = tuple(int(v * (1 - 0.2 * depth)) for v in (120, 130, 150))
        draw.polygon([*ridge, (SIZE, SIZE), (0, SIZE)], fill=color)
    top = int(rng.integers(430, 500))
    draw.rectangle(
        (0, top, SIZE, SIZE), fill=tuple(map(int, rng.integers((40, 100, 30), (90, 170, 70))))
    )
    for _ in range(int(rng.integers(2, 9))):
        x, h = int(rng.integers(20, 580)), int(rng.integers(50, 140))
        draw.rectangle((x - 5, top, x + 5, top + 40), fill=(80, 55, 40))
        draw.polygon(
            [(x, top - h), (x - h // 3, top + 8), (x + h // 3, top + 8)], fill=(25, 75, 40)
        )
    return photograph(image, seed)


NO_CLOTHES = {"noise": noise, "text": text, "faces": face, "landscapes": landscape}
