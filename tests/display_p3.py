"""The color profile of phone photos, for tests."""

import struct


def display_p3():
    """A profile of the color space Display P3: three primaries (XYZ under D50) and sRGB's curve."""

    def fixed(*numbers):
        return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)

    name = b"Display P3\0"
    curve = b"para\0\0\0\0\0\3\0\0" + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    primaries = {"r": (0.51512, 0.24120, -0.00105), "g": (0.29198, 0.69225, 0.04189)}
    primaries["b"] = (0.15710, 0.06657, 0.78407)
    white = (0.9642, 1, 0.8249)
    tags = {"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)}
    tags |= {"wtpt": b"XYZ \0\0\0\0" + fixed(*white)}
    tags |= {f"{c}XYZ": b"XYZ \0\0\0\0" + fixed(*xyz) for c, xyz in primaries.items()}
    tags |= {f"{c}TRC": curve for c in "rgb"}
    table, content, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += tag.encode() + struct.pack(">II", start + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    header = struct.pack(
        ">I4xI12s12x4s28x", start + len(content), 0x04300000, b"mntrRGB XYZ ", b"acsp"
    )
    return header + fixed(*white) + bytes(48) + table + content
