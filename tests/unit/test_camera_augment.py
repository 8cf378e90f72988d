import numpy as np
import pytest

from fashion_cnn.data.camera_augment import (
    LIGHT_COLUMNS,
    PERSPECTIVE_COLUMNS,
    light,
    perspective,
)

RNG = np.random.default_rng(0)
PHOTOS = RNG.integers(0, 256, (4, 40, 30, 3), dtype=np.uint8)
ANGLE, AREA, STRETCH, MOVE_X, MOVE_Y, TILT_X, TILT_Y = range(PERSPECTIVE_COLUMNS)
EXPOSURE, CONTRAST, GAMMA, SATURATION, RED, BLUE, SHADE, DIRECTION = range(LIGHT_COLUMNS)
ALL_AREA = (1 - 0.45) / (1.15 - 0.45)  # the random number with which all of the photo is seen


def noise(columns, **changes):
    """Random numbers that change nothing, but for some: name of a column -> number."""
    row = np.full((1, columns), 0.5)
    for name, value in changes.items():
        row[0, globals()[name]] = value
    return row


def camera(photo, **changes):
    changes = {"AREA": ALL_AREA, **changes}
    return perspective(photo, noise(PERSPECTIVE_COLUMNS, **changes))


def test_in_the_middle_of_all_ranges_nothing_changes():
    one_channel = PHOTOS[..., :1]
    for photos in (PHOTOS, one_channel):
        for k in range(4):
            photo = photos[k : k + 1]
            np.testing.assert_allclose(camera(photo).astype(int), photo, atol=1)
            lit = light(photo, noise(LIGHT_COLUMNS)).astype(int)
            np.testing.assert_allclose(lit, np.maximum(photo, 1), atol=1)


def test_a_row_of_noise_decides_and_nothing_else():
    for augment, columns in ((perspective, PERSPECTIVE_COLUMNS), (light, LIGHT_COLUMNS)):
        rows = RNG.random((4, columns))
        together = augment(PHOTOS, rows)
        assert together.shape == PHOTOS.shape and together.dtype == np.uint8
        for k in range(4):
            np.testing.assert_array_equal(
                augment(PHOTOS[k : k + 1], rows[k : k + 1])[0], together[k]
            )


def test_perspective_moves_points_where_the_formula_says():
    down, right = np.mgrid[:200, :200]
    position = np.stack([down, right, 0 * down], 2).astype(np.uint8)[np.newaxis]
    centers = np.arange(200) + 0.5

    def seen(**changes):  # rows and columns of the photo that the camera sees at each pixel
        return np.moveaxis(camera(position, **changes)[0, :, :, :2].astype(float), 2, 0)

    rows, columns = seen(AREA=0.0)  # 0.45 of the area, around the center
    expected = 100 + (centers - 100) * np.sqrt(0.45) - 0.5
    np.testing.assert_allclose(columns[100], expected, atol=1)
    np.testing.assert_allclose(rows[:, 100], expected, atol=1)
    _, columns = seen(AREA=0.0, MOVE_X=1.0)  # to the right edge of the photo
    assert columns[100, -1] == pytest.approx(199, abs=1)
    rows, _ = seen(AREA=0.0, MOVE_Y=0.0)  # to its upper edge
    assert rows[0, 100] == pytest.approx(0, abs=1)
    rows, columns = seen(ANGLE=1.0)  # turned by 0.2 radians around the center
    assert columns[100, 150] == pytest.approx(100 + 50 * np.cos(0.2), abs=1)
    assert rows[100, 150] == pytest.approx(100 - 50 * np.sin(0.2), abs=1)
    rows, columns = seen(STRETCH=1.0, AREA=0.0)  # wider by 4/3 than high
    assert np.ptp(columns[100]) / np.ptp(rows[:, 100]) == pytest.approx(4 / 3, abs=0.03)
    _, columns = seen(TILT_X=1.0)  # the right edge is farther away than the left one
    assert columns[100, 199] == pytest.approx(100 + 100 / 1.15, abs=1.5)
    assert columns[100, 0] == 0  # outside: the nearest pixel


def test_light_changes_one_thing_at_a_time():
    gray = np.full((1, 8, 8, 3), 100, np.uint8)
    red = np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0] = 120

    def lit(photo, **changes):
        return light(photo, noise(LIGHT_COLUMNS, **changes)).astype(float)

    assert lit(gray, EXPOSURE=1.0).mean() == pytest.approx(135, abs=1)
    assert lit(gray, CONTRAST=1.0).mean() == pytest.approx(100, abs=1)
    edge = gray.copy()
    edge[:, :4] = 50
    assert np.ptp(lit(edge, CONTRAST=1.0)) == pytest.approx(1.3 * 50, abs=2)
    assert lit(gray, GAMMA=0.0).mean() == pytest.approx(255 * (100 / 255) ** np.exp(-0.35), abs=1)
    assert np.ptp(lit(red, SATURATION=0.0), axis=3).mean() == pytest.approx(0.55 * 119, abs=2)
    balanced = lit(gray, RED=1.0, BLUE=0.0)[0, 0, 0]
    np.testing.assert_allclose(balanced, 100 * np.exp([0.15, 0, -0.15]), atol=1.5)
    shaded = lit(gray, SHADE=1.0)[0, 4, :, 0]  # towards the right
    assert (np.diff(shaded) > 0).all() and shaded[-1] == pytest.approx(126, abs=2)
    np.testing.assert_array_equal(lit(gray[..., :1], RED=1.0), lit(gray[..., :1]))


def test_jax_computes_the_same():
    jnp = pytest.importorskip("jax.numpy")
    for augment, columns in ((perspective, PERSPECTIVE_COLUMNS), (light, LIGHT_COLUMNS)):
        rows = RNG.random((4, columns)).astype(np.float32)
        by_jax = np.asarray(augment(jnp.asarray(PHOTOS), jnp.asarray(rows), jnp)).astype(int)
        # rounding of the coordinates moves a value by less than a hundredth of the contrast
        assert np.abs(by_jax - augment(PHOTOS, rows)).max() <= 2
