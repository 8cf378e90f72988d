import io
import os
import sys

import pytest
from PIL import Image

from fashion_cnn.data.picture_files import advice_for, is_picture, picture_format, walk
from fashion_cnn.data.pictures import find_pictures, read_rgba

symbolic_links = pytest.mark.skipif(
    sys.platform == "win32", reason="symbolic links need a privilege on Windows"
)


def encoded(format_name, **settings):
    file = io.BytesIO()
    Image.new("RGB", (20, 10), (200, 30, 30)).save(file, format_name, **settings)
    return file.getvalue()


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO"])
def test_every_format_is_recognized_by_its_content_and_read(tmp_path, name):
    if name not in Image.registered_extensions().values() and name != "MPO":
        pytest.skip(f"this Pillow has no {name}")
    more = (
        {"save_all": True, "append_images": [Image.new("RGB", (20, 10))]} if name == "MPO" else {}
    )
    content = encoded(name, **more)
    assert picture_format(content[:64]) == {"MPO": "JPEG"}.get(name, name)
    path = tmp_path / "a picture without ending"
    path.write_bytes(content)
    assert is_picture(path)
    red, green, _, alpha = read_rgba(path)[5, 10].astype(int)
    assert red > 180 > 60 > green and alpha == 255


def test_other_files_are_no_pictures(tmp_path):
    others = {
        "ppm": encoded("PPM"),
        "ico": encoded("ICO"),
        "video.mp4": b"\0\0\0\x18ftypisom\0\0\0\0isomavc1",
        "list.txt": b"BMW, 3 doors and more text",
        "sound.wav": b"RIFF\0\0\0\0WAVEfmt ",
        "raw.dng": encoded("TIFF"),  # as of a camera
        "empty": b"",
    }
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
        assert not is_picture(tmp_path / name), name
    if sys.platform != "win32":  # where no file is a pipe
        os.mkfifo(tmp_path / "pipe.jpg")
        assert not is_picture(tmp_path / "pipe.jpg")
    for name in ("ppm", "ico"):
        with pytest.raises(ValueError, match=r"not a picture \(JPEG, PNG, WebP"):
            read_rgba(tmp_path / name)


def fill(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded("PNG"))


def test_hidden_files_clutter_and_runs_are_left_out_of_folders(tmp_path):
    kept = ("a.png", "deep/b", "deep/recipe.json/c.png")
    fill(tmp_path, *kept)
    fill(tmp_path, ".thumbs/a.png", "._a.png", "@eaDir/a.png", "deep/__MACOSX/b.png", "Thumbs.db")
    fill(tmp_path, "runs/one/plot.png", "runs/one/svg/plot.png", "search/trials.png")
    for name in ("recipe.json", "environment.json"):
        (tmp_path / "runs" / "one" / name).write_text("{}")
    for name in ("task.json", "trials.csv"):
        (tmp_path / "search" / name).write_text("{}")
    assert find_pictures([str(tmp_path)]) == [str(tmp_path / name) for name in kept]
    assert find_pictures([str(tmp_path / "runs" / "one" / "plot.png")])  # named, so wanted
    assert find_pictures([str(tmp_path / ".thumbs")])


@symbolic_links
def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    fill(tmp_path, "in/a.png", "elsewhere/b.png")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "up").symlink_to("..")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in")
    names = [name for _, _, names in walk(tmp_path / "in") for name in names]
    assert names == ["a.png", "b.png"]


@symbolic_links
def test_a_broken_link_is_not_passed_over(tmp_path):
    fill(tmp_path, "a.png")
    (tmp_path / "broken link.png").symlink_to("none")
    assert find_pictures([str(tmp_path)])[1:] == [str(tmp_path / "broken link.png")]


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    fill(tmp_path, "a.png")
    refused = PermissionError(13, "Permission denied", str(tmp_path / "in"))
    monkeypatch.setattr(os, "walk", lambda *_, onerror, **__: onerror(refused))
    with pytest.raises(OSError, match=r"in: Permission denied"):
        find_pictures([str(tmp_path)])


def test_archives_and_lists_get_advice(tmp_path):
    (tmp_path / "photos.zip").write_bytes(b"PK\x03\x04" + bytes(60))
    with pytest.raises(ValueError, match=r"photos\.zip: not a picture .*; archives are not read"):
        read_rgba(tmp_path / "photos.zip")
    assert "standard input" in advice_for("names.csv")
    assert advice_for("photo.jpg") == ""
